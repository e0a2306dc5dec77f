//! An RPC with https: `SSL_CERT_FILE` says whom a process trusts. A process reads it once, so that the calls are made
//! by a child of this test: itself, with the variable set.

use std::{env, process::Command, sync::Arc};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpListener,
};
use tokio_rustls::{
    TlsAcceptor,
    rustls::{ServerConfig, crypto::ring, pki_types::PrivatePkcs8KeyDer},
};

const URL: &str = "TLS_TEST_URL";

/// The child: says what came of one call.
#[tokio::test]
async fn one_call() {
    let Ok(url) = env::var(URL) else { return };
    let client = chain::ReadClient::connect(&url).unwrap();
    match client.chain_id().await {
        Ok(id) => println!("answered {id}"),
        Err(error) => println!("failed {error}"),
    }
}

fn pem(der: &[u8]) -> String {
    format!("-----BEGIN CERTIFICATE-----\n{}\n-----END CERTIFICATE-----\n", STANDARD.encode(der))
}

fn call(url: &str, trusted: &std::path::Path) -> String {
    let output = Command::new(env::current_exe().unwrap())
        .args(["--exact", "https::one_call", "--nocapture"])
        .env(URL, url)
        .env("SSL_CERT_FILE", trusted)
        .env_remove("SSL_CERT_DIR")
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn only_whom_the_machine_trusts_is_talked_to() {
    let authority = |name: &str| {
        let key = rcgen::KeyPair::generate().unwrap();
        let mut params = rcgen::CertificateParams::new(Vec::new()).unwrap();
        params.distinguished_name.push(rcgen::DnType::CommonName, name);
        params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
        let certificate = params.self_signed(&key).unwrap();
        (rcgen::Issuer::new(params, key), pem(certificate.der()))
    };
    let ((issuer, ours), (_, another)) = (authority("ours"), authority("another"));
    let key = rcgen::KeyPair::generate().unwrap();
    let params = rcgen::CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
    let certificate = params.signed_by(&key, &issuer).unwrap();
    let config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(
            vec![certificate.der().clone()],
            PrivatePkcs8KeyDer::from(key.serialize_der()).into(),
        )
        .unwrap();
    let acceptor = TlsAcceptor::from(Arc::new(config));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        loop {
            let (socket, _) = listener.accept().await.unwrap();
            // whoever does not trust us says so and goes
            let Ok(mut stream) = acceptor.accept(socket).await else { continue };
            let mut seen = vec![0; 4_096];
            let _read = stream.read(&mut seen).await.unwrap();
            let body = r#"{"jsonrpc":"2.0","id":0,"result":"0x89"}"#;
            let head = format!("content-length: {}\r\nconnection: close", body.len());
            let answer = format!("HTTP/1.1 200 OK\r\n{head}\r\n\r\n{body}");
            stream.write_all(answer.as_bytes()).await.unwrap();
            stream.shutdown().await.unwrap();
        }
    });
    let folder = tempfile::tempdir().unwrap();
    let file = |name: &str, pem: &str| {
        let path = folder.path().join(name);
        std::fs::write(&path, pem).unwrap();
        path
    };
    let (ours, another) = (file("ours.pem", &ours), file("another.pem", &another));
    let url = format!("https://localhost:{port}/v2/a-key");
    let said = tokio::task::block_in_place(|| {
        let address = format!("https://127.0.0.1:{port}/");
        [call(&url, &ours), call(&url, &another), call(&address, &ours)]
    });
    assert!(said[0].contains("answered 137"), "{}", said[0]);
    assert!(said[1].contains("invalid peer certificate: UnknownIssuer"), "{}", said[1]);
    assert!(!said[1].contains("a-key"), "{}", said[1]);
    assert!(said[2].contains("certificate not valid for name"), "{}", said[2]);
}
