//! TLS, tokens, Unix sockets.

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use backprop_client::{Client, Code, RetryPolicy, Tls};
use tempfile::TempDir;

use crate::support::{Server, make_token, small, xor};

/// A certificate and its key, made by the openssl program; signed by itself or by `issuer`.
fn certificate(folder: &Path, name: &str, issuer: Option<&str>) -> (PathBuf, PathBuf) {
    let file = |name: &str, kind: &str| folder.join(format!("{name}.{kind}"));
    let config = file("openssl", "cnf");
    let text = format!("[req]\ndistinguished_name=dn\nprompt=no\n[dn]\nCN={name}\n");
    std::fs::write(&config, text).unwrap();
    let (pem, key) = (file(name, "pem"), file(name, "key"));
    let mut openssl = Command::new("openssl");
    openssl
        .args(["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1"])
        .args(["-nodes", "-days", "30", "-config"])
        .arg(&config)
        .arg("-keyout")
        .arg(&key)
        .arg("-out")
        .arg(&pem);
    match issuer {
        None => openssl.args(["-addext", "basicConstraints=critical,CA:TRUE"]),
        Some(issuer) => openssl
            .args(["-addext", "basicConstraints=CA:FALSE"])
            .args(["-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1"])
            .arg("-CA")
            .arg(file(issuer, "pem"))
            .arg("-CAkey")
            .arg(file(issuer, "key")),
    };
    let output = openssl.output().expect("openssl is installed");
    assert!(output.status.success(), "{output:?}");
    std::fs::set_permissions(&key, std::fs::Permissions::from_mode(0o600)).unwrap();
    (pem, key)
}

fn impatient(address: &str) -> backprop_client::Builder {
    Client::builder(address).retry(RetryPolicy { max_attempts: 2, ..Default::default() })
}

#[tokio::test]
async fn mutual_tls_needs_both_certificates() {
    let directory = TempDir::new().unwrap();
    let (ca, _) = certificate(directory.path(), "ca", None);
    let (other_ca, _) = certificate(directory.path(), "other", None);
    let (server_pem, server_key) = certificate(directory.path(), "server", Some("ca"));
    let (client_pem, client_key) = certificate(directory.path(), "client", Some("ca"));
    let flags = [
        "--tls-cert",
        server_pem.to_str().unwrap(),
        "--tls-key",
        server_key.to_str().unwrap(),
        "--tls-client-ca",
        ca.to_str().unwrap(),
    ];
    let server = Server::with_flags(TempDir::new().unwrap(), &flags).await;
    let trusting = || Tls::new().ca_file(&ca);
    let known = || trusting().identity_files(&client_pem, &client_key);

    let client = impatient(&server.address).tls(known()).build().unwrap();
    client.create_model(small()).id("a").await.unwrap();
    client.train("a", xor(20)).iterations(5).await.unwrap();
    let port = server.address.rsplit(':').next().unwrap();
    let by_name = impatient(&format!("localhost:{port}")).tls(known()).build().unwrap();
    by_name.get_model("a").await.unwrap();
    let text = std::fs::read_to_string(&ca).unwrap();
    let from_text = Tls::new().ca_pem(text).identity_files(&client_pem, &client_key);
    impatient(&server.address).tls(from_text).build().unwrap().get_model("a").await.unwrap();

    let refused = [
        impatient(&server.address).tls(trusting()),
        impatient(&server.address).tls(known().ca_file(&other_ca)),
        impatient(&server.address).tls(known().server_name("another.example")),
        impatient(&server.address),
    ];
    for builder in refused {
        let error = builder.clone().build().unwrap().get_model("a").await.unwrap_err();
        assert_eq!(error.code(), Code::Unavailable, "{builder:?}: {error}");
    }
    let mixed = trusting().identity_files(&client_pem, &server_key);
    let error = impatient(&server.address).tls(mixed).build().unwrap_err();
    assert_eq!(error.code(), Code::FailedPrecondition);
    assert!(error.message().contains("server.key"), "{error}");
}

#[tokio::test]
async fn tokens_say_who_calls() {
    let (writer, writer_line) = make_token("writer", "writer");
    let (reader, reader_line) = make_token("reader", "reader");
    let directory = TempDir::new().unwrap();
    let auth = directory.path().join("auth.json");
    let principals = format!("{writer_line},{reader_line}");
    std::fs::write(&auth, format!("{{\"principals\":[{principals}]}}")).unwrap();
    std::fs::set_permissions(&auth, std::fs::Permissions::from_mode(0o600)).unwrap();
    let socket = directory.path().join("socket");
    let flags = ["--auth-file", auth.to_str().unwrap(), "--unix-socket", socket.to_str().unwrap()];
    let server = Server::with_flags(TempDir::new().unwrap(), &flags).await;

    let client = Client::builder(&server.address).token(&writer).build().unwrap();
    client.create_model(small()).id("a").await.unwrap();
    client.train("a", xor(20)).iterations(5).await.unwrap();
    client.upload_dataset("d", xor(20)).await.unwrap();
    client.export_model("a").to_bytes().await.unwrap();

    let file = directory.path().join("token");
    std::fs::write(&file, format!("{reader}\n")).unwrap();
    for address in [server.address.clone(), format!("unix:{}", socket.display())] {
        let client = Client::builder(address).token_file(&file).build().unwrap();
        client.get_model("a").await.unwrap();
        let error = client.step("a", xor(4)).await.unwrap_err();
        assert_eq!((error.code(), error.reason()), (Code::PermissionDenied, "ROLE_TOO_LOW"));
    }
    let nobody = Client::builder(&server.address).build().unwrap();
    let error = nobody.get_model("a").await.unwrap_err();
    assert_eq!((error.code(), error.reason()), (Code::Unauthenticated, "NO_CREDENTIALS"));
}
