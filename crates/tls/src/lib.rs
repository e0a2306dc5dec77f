//! HTTPS clients that trust what this machine trusts: rustls with ring, and the machine's own certificates, or those
//! that `SSL_CERT_FILE` or `SSL_CERT_DIR` name. One place, as everything that we call is to be judged alike: the
//! chain's RPC, webhooks, and the service as an agent sees it.

use std::{
    error::Error,
    sync::{Arc, OnceLock},
    time::Duration,
};

use tokio_rustls::rustls::{self, ClientConfig, RootCertStore, crypto::ring};

/// What this machine trusts, read once a process. A machine that trusts nobody gets a configuration that trusts
/// nobody: each call fails, none is made unjudged.
///
/// # Errors
/// If ring does not speak TLS 1.2 and 1.3, which it does.
pub fn trust() -> Result<Arc<ClientConfig>, rustls::Error> {
    static TRUST: OnceLock<Result<Arc<ClientConfig>, rustls::Error>> = OnceLock::new();
    TRUST.get_or_init(|| trusting(roots())).clone()
}

/// A configuration that trusts these roots only.
///
/// # Errors
/// If ring does not speak TLS 1.2 and 1.3, which it does.
pub fn trusting(roots: RootCertStore) -> Result<Arc<ClientConfig>, rustls::Error> {
    let builder = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()?;
    Ok(Arc::new(builder.with_root_certificates(roots).with_no_client_auth()))
}

fn roots() -> RootCertStore {
    let mut roots = RootCertStore::empty();
    let found = rustls_native_certs::load_native_certs();
    for error in &found.errors {
        tracing::warn!(%error, "certificates that cannot be read are not trusted");
    }
    let (taken, _) = roots.add_parsable_certificates(found.certs);
    if taken == 0 {
        tracing::warn!("this machine trusts no certificates: nothing can be called with https");
    }
    roots
}

/// A client of HTTP and HTTPS, to be completed. reqwest's own constructors know no cryptography in this build, and
/// panic.
///
/// # Errors
/// Those of [`trust`].
#[allow(clippy::disallowed_methods)]
pub fn client() -> Result<reqwest::ClientBuilder, rustls::Error> {
    Ok(reqwest::Client::builder().tls_backend_preconfigured(ClientConfig::clone(&*trust()?)))
}

/// A client of HTTP and HTTPS that asks no proxy.
///
/// # Errors
/// Those of [`trust`] and of reqwest, in words.
pub fn direct(timeout: Duration) -> Result<reqwest::Client, String> {
    let builder = client().map_err(|error| error.to_string())?;
    builder.no_proxy().timeout(timeout).build().map_err(|error| causes(&error))
}

/// An error with its causes, the outermost first: only the innermost says that a certificate is not trusted.
#[must_use]
pub fn causes(error: &(dyn Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(inner) = cause {
        let said = inner.to_string();
        if !text.ends_with(&said) {
            text = format!("{text}: {said}");
        }
        cause = inner.source();
    }
    text
}
