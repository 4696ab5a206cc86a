"""How the command line reaches a server: TLS, tokens, and the file of named servers."""

import json
import os
import pathlib
import tempfile
import unittest

from certificates import Certificate
from harness import Server, cli


class ConnectionTest(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.scratch = tempfile.TemporaryDirectory()
        cls.path = pathlib.Path(cls.scratch.name)
        cls.authority = Certificate(cls.path, "authority", authority=True)
        own = Certificate(cls.path, "server", cls.authority)
        cls.me = Certificate(cls.path, "me", cls.authority)
        cls.stranger = Certificate(cls.path, "stranger", authority=True)
        cls.named = Certificate(cls.path, "named", cls.authority, san="DNS:backpropd.example.com")
        tls = ("--tls-client-ca", str(cls.authority.pem))
        cls.secure = Server("--tls-cert", str(own.pem), "--tls-key", str(own.key), *tls, "--tls-client-auth", "optional")
        cls.mutual = Server("--tls-cert", str(cls.named.pem), "--tls-key", str(cls.named.key), *tls)
        cls.clear = Server()
        for server in (cls.secure, cls.mutual, cls.clear):
            server.__enter__()
            cls.addClassCleanup(server.__exit__, None, None, None)
        cls.addClassCleanup(cls.scratch.cleanup)

    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.home = pathlib.Path(folder.name)
        self.config = self.home / "backprop/config.toml"
        self.config.parent.mkdir()

    def run_cli(self, *arguments, env=None, **options):
        return cli(*arguments, env={"XDG_CONFIG_HOME": str(self.home), **(env or {})}, **options)

    def write(self, text):
        self.config.write_text(text)
        os.chmod(self.config, 0o600)

    def healthy(self, *arguments, **options):
        result = self.run_cli(*arguments, "health", **options)
        self.assertEqual((result.returncode, result.stdout), (0, "SERVING\n"), result.stderr)

    # Flags.

    def test_flags_of_tls(self):
        secure = ("--server", self.secure.address)
        self.healthy(*secure, "--ca", self.authority.pem)
        self.healthy(*secure, "--tls", "--ca", self.authority.pem)
        self.healthy(*secure, "--ca", self.authority.pem, "--cert", self.me.pem, "--key", self.me.key)
        self.healthy("--server", self.mutual.address, "--ca", self.authority.pem, "--cert", self.me.pem, "--key", self.me.key,
                     "--tls-server-name", "backpropd.example.com")

    def test_mistakes_say_what_to_do(self):
        secure, mutual, clear = (("--server", one.address) for one in (self.secure, self.mutual, self.clear))
        own = ("--cert", self.me.pem, "--key", self.me.key)
        for arguments, status, message in (
                (secure, 1, "If it expects TLS, use --tls or --ca."),
                ((*clear, "--tls"), 1, "The server does not use TLS: omit --tls"),
                ((*secure, "--tls"), 1, "signed by an authority that is not trusted: name the authority with --ca"),
                ((*secure, "--ca", self.stranger.pem), 1, "signed by an authority that is not trusted"),
                ((*mutual, "--ca", self.authority.pem, *own), 1, "is for another name: use --tls-server-name"),
                ((*mutual, "--ca", self.authority.pem, "--tls-server-name", "backpropd.example.com"), 1,
                 "If it requires a certificate of yours, use --cert and --key."),
                ((*secure, "--ca", "/nonexistent"), 1, "/nonexistent: No such file or directory"),
                ((*secure, "--ca", self.authority.pem, "--cert", self.me.pem), 2, "--cert requires --key"),
                ((*secure, "--ca", self.authority.pem, "--cert", self.me.pem, "--key", self.stranger.key), 1,
                 "is not the key of the certificate")):
            with self.subTest(arguments):
                refused = self.run_cli(*arguments, "health")
                self.assertEqual(refused.returncode, status, refused.stdout + refused.stderr)
                self.assertEqual(refused.stdout, "")
                self.assertIn(message, refused.stderr)
                self.assertLessEqual(len(refused.stderr.splitlines()), 2, refused.stderr)
        as_json = json.loads(self.run_cli("--json", *secure, "health").stderr)
        self.assertIn("use --tls or --ca", as_json["error"]["hint"])

    # Tokens.

    def test_a_token_that_cannot_be_used_is_an_error_without_its_text(self):
        token = self.home / "token"
        clear = ("--server", self.clear.address)
        token.write_text("bp_secret\n")
        os.chmod(token, 0o600)
        self.healthy(*clear, "--token-file", token)
        self.healthy(*clear, env={"BACKPROP_TOKEN": "bp_secret"})
        os.chmod(token, 0o644)
        noted = self.run_cli(*clear, "--token-file", token, "health")
        self.assertEqual((noted.returncode, len(noted.stderr.splitlines())), (0, 1), noted.stderr)
        self.assertIn(f"note: {token}: every user of this machine can read the token", noted.stderr)
        for arguments, env, message in (((*clear, "--token-file", self.home / "none"), {}, "No such file"),
                                        (clear, {"BACKPROP_TOKEN": "bp_secret two"}, "white space"),
                                        (("--server", "192.0.2.1"), {"BACKPROP_TOKEN": "bp_secret"},
                                         "is not sent to 192.0.2.1:50051 in clear text")):
            with self.subTest(message):
                refused = self.run_cli(*arguments, "health", env=env)
                self.assertEqual(refused.returncode, 1)
                self.assertIn(message, refused.stderr)
                self.assertNotIn("bp_secret", refused.stderr)

    # Contexts.

    def test_a_context_holds_all_settings(self):
        for name, target in (("ca.pem", self.authority.pem), ("me.pem", self.me.pem), ("me.key", self.me.key)):
            (self.config.parent / name).write_bytes(target.read_bytes())
        self.write(f'''current_context = "prod"
[contexts.prod]
server = "{self.mutual.address}"
ca = "ca.pem"
cert = "me.pem"
key = "me.key"
tls_server_name = "backpropd.example.com"
[contexts.plain]
server = "{self.clear.address}"
''')
        self.healthy()
        self.healthy("--context", "plain")
        self.healthy(env={"BACKPROP_CONTEXT": "plain"})
        self.healthy("--context", "prod", env={"BACKPROP_CONTEXT": "plain"})
        # A flag replaces one setting of a context that is chosen.
        refused = self.run_cli("--context", "prod", "--ca", self.stranger.pem, "health")
        self.assertIn("not trusted", refused.stderr)

    def test_precedence(self):
        """Each setting comes from the first that has it; the settings of a context do not go to another server."""
        token = self.home / "token"
        token.write_text("x y")  # cannot be used: the message shows whether it was taken
        os.chmod(token, 0o600)
        self.write(f'''current_context = "with_token"
[contexts.with_token]
server = "{self.clear.address}"
token_file = "{token}"
[contexts.without]
server = "{self.clear.address}"
''')
        taken = "the token file"
        gone = "127.0.0.1:1"
        for arguments, env, message in (
                ((), {}, taken),
                ((), {"BACKPROP_TOKEN": "good"}, "SERVING"),
                (("--context", "with_token"), {"BACKPROP_TOKEN": "good"}, taken),
                (("--context", "without"), {"BACKPROP_TOKEN": "a b"}, "white space"),
                ((), {"BACKPROP_SERVER": self.clear.address}, "SERVING"),
                (("--server", self.clear.address), {}, "SERVING"),
                (("--server", self.clear.address), {"BACKPROP_CONTEXT": "with_token"}, "SERVING"),
                (("--server", self.clear.address, "--context", "with_token"), {}, taken),
                ((), {"BACKPROP_SERVER": gone}, f"Is a server running at {gone}?"),
                (("--context", "without"), {"BACKPROP_SERVER": gone}, "SERVING"),
                ((), {"BACKPROP_SERVER": gone, "BACKPROP_CONTEXT": "without"}, "SERVING"),
                (("--server", gone), {"BACKPROP_CONTEXT": "without"}, f"Is a server running at {gone}?"),
                (("--server", gone, "--context", "without"), {}, f"Is a server running at {gone}?")):
            with self.subTest(arguments=arguments, env=env):
                result = self.run_cli(*arguments, "health", env=env)
                self.assertIn(message, result.stdout + result.stderr)

    def test_errors_name_file_line_and_key(self):
        for text, message in (
                ("x = 1", "1: x: unknown key"),
                ("[contexts.a]\nserver = 'h'\nserve = 'h'", "3: contexts.a.serve: unknown key; did you mean server?"),
                ("[contexts.a]\nserver = 'h'\ntoken = 'secret'", "3: contexts.a.token: a token does not belong here; use token_file"),
                ("[contexts.a]\nserver = 1", "2: contexts.a.server: must be a text"),
                ("[contexts.a]\nserver = ''", "2: contexts.a.server: must not be empty"),
                ("[contexts.a]\nserver = 'http://h'", "contexts.a.server: expected host:port"),
                ("[contexts.a]\nserver = 'h'\ntls = 'yes'", "3: contexts.a.tls: must be true or false"),
                ("[contexts.a]\nserver = 'h'\ntls = false\nca = 'x'", "contexts.a: ca, cert, key and tls_server_name need tls = true"),
                ("[contexts.a]\nserver = 'h'\ncert = 'x'", "contexts.a: cert and key must be given together"),
                ("[contexts.a]\ntls = true", "contexts.a: needs a server"),
                ("contexts = 1", "1: contexts: must be tables"),
                ("[contexts]\na = 1", "2: contexts.a: must be a table"),
                ("current_context = 'b'\n[contexts.a]\nserver = 'h'", 'there is no context "b"; there are: a'),
                ("[contexts.a\nserver = 1", "1: "),
                ("[contexts.a]\nserver = 'h'\n[contexts.a]\nserver = 'h'", "3: ")):
            with self.subTest(text):
                self.write(text)
                refused = self.run_cli("health")
                self.assertEqual(refused.returncode, 1, refused.stdout)
                self.assertIn(f"{self.config}:", refused.stderr)
                self.assertIn(message, refused.stderr)
                self.assertNotIn("secret", refused.stderr)
                # A server on the command line needs no file.
                self.healthy("--server", self.clear.address)
        self.write(f"[contexts.a]\nserver = '{self.clear.address}'\n")
        self.assertIn("there are: a", self.run_cli("--context", "b", "health").stderr)
        self.healthy("--context", "a")
        os.chmod(self.config, 0o666)
        self.assertIn("every user of this machine can change this file", self.run_cli("--context", "a", "health").stderr)
        self.config.unlink()
        self.assertIn("there are none", self.run_cli("--context", "a", "health").stderr)

    def test_list_and_use(self):
        self.assertEqual(self.run_cli("context", "list").stdout, "")
        text = '''# of 𝒎𝒆
[contexts.prod]  # the big one
server = "prod.example.com"
tls = true

[contexts."dev box"]
server = "unix:/run/backpropd.sock"
'''
        self.write(text)
        os.chmod(self.config, 0o640)
        for name in ("prod", "dev box", "prod"):
            self.assertEqual(self.run_cli("context", "use", name).returncode, 0)
            self.assertEqual(self.config.read_text(), f'current_context = "{name}"\n' + text)
        self.assertEqual(self.config.stat().st_mode & 0o777, 0o640)
        self.assertEqual([line.split() for line in self.run_cli("context", "list").stdout.splitlines()],
                         [["CURRENT", "NAME", "SERVER", "TLS"], ["dev", "box", "unix:/run/backpropd.sock", "no"],
                          ["*", "prod", "prod.example.com:50051", "yes"]])
        self.assertEqual(json.loads(self.run_cli("--json", "context", "list").stdout)["contexts"][1],
                         {"name": "prod", "server": "prod.example.com:50051", "tls": True, "current": True})
        self.assertEqual(json.loads(self.run_cli("--json", "context", "use", "dev box").stdout), {"currentContext": "dev box"})
        self.write("# ö\ncurrent_context = 'prod'  # ü\n" + text)
        self.run_cli("context", "use", "dev box")
        self.assertEqual(self.config.read_text(), '# ö\ncurrent_context = "dev box"  # ü\n' + text)
        link = self.config.with_name("real.toml")
        self.config.rename(link)
        self.config.symlink_to(link)
        self.run_cli("context", "use", "prod")
        self.assertTrue(self.config.is_symlink())
        self.assertIn('"prod"', link.read_text())
        unknown = self.run_cli("context", "use", "none")
        self.assertEqual(unknown.returncode, 1)
        self.assertIn("there are: dev box, prod", unknown.stderr)

    def test_the_home_folder_and_completion(self):
        config = self.home / ".config/backprop/config.toml"
        config.parent.mkdir(parents=True)
        config.write_text(f'[contexts.prod]\nserver = "{self.secure.address}"\nca = "~/ca.pem"\n')
        (self.home / "ca.pem").write_bytes(self.authority.pem.read_bytes())
        env = {"XDG_CONFIG_HOME": "", "HOME": str(self.home)}
        self.assertEqual(cli("--context", "prod", "create", "cat", "--inputs", 2, "--layers", "2", env=env).returncode, 0)
        for words, completions in ((("--context", ""), ["prod"]), (("context", "use", "p"), ["prod"]),
                                   (("--context", "prod", "get", ""), ["cat"]), (("get", ""), []),
                                   (("--server", self.secure.address, "--ca", str(self.authority.pem), "get", ""), ["cat"])):
            with self.subTest(words):
                self.assertEqual(cli("__complete", *words, env=env).stdout.split(), completions)


if __name__ == "__main__":
    unittest.main()
