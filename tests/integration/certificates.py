"""Real certificates for tests, made by the openssl program. Keys are of the curve P-256."""

import os
import pathlib
import subprocess

NAMES = "DNS:localhost,IP:127.0.0.1"


class Certificate:
    """Files NAME.pem and NAME.key in a folder, signed by `issuer` or by itself."""

    def __init__(self, folder, name, issuer=None, san=NAMES, authority=False, days=90):
        self.pem = pathlib.Path(folder) / f"{name}.pem"
        self.key = pathlib.Path(folder) / f"{name}.key"
        config = pathlib.Path(folder) / "openssl.cnf"  # the system's would make all of them authorities
        config.write_text(f"[req]\ndistinguished_name=dn\nprompt=no\n[dn]\nCN={name}\n")
        command = ["openssl", "req", "-x509", "-config", config, "-newkey", "ec", "-pkeyopt",
                   "ec_paramgen_curve:prime256v1", "-nodes", "-keyout", self.key, "-out", self.pem, "-days", str(days),
                   "-addext", "basicConstraints=" + ("critical,CA:TRUE" if authority else "CA:FALSE")]
        if san and not authority:
            command += ["-addext", f"subjectAltName={san}"]
        if issuer:
            command += ["-CA", issuer.pem, "-CAkey", issuer.key]
        subprocess.run(command, check=True, capture_output=True)
        os.chmod(self.key, 0o600)


def put(source, target):
    """Replaces a file at once, as certificate managers do."""
    temporary = pathlib.Path(f"{target}.new")
    temporary.write_bytes(pathlib.Path(source).read_bytes())
    os.chmod(temporary, 0o600)
    os.replace(temporary, target)
