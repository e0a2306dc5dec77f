//! Calling an endpoint: its name is resolved, every address that it has is judged, and one of those is connected to; no
//! other is ever asked for. No redirect is followed, no proxy is used, nothing of ours is sent but the call itself.

use std::{
    io,
    net::{IpAddr, SocketAddr},
    sync::Arc,
};

use domain::webhook::{Host, Rules, Scheme, Target};
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::{
    Request,
    body::{Bytes, Incoming},
    client::conn::http1,
    header,
};
use hyper_util::rt::TokioIo;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::{TcpStream, lookup_host},
    task::JoinHandle,
};
use tokio_rustls::{
    TlsConnector,
    rustls::{self, ClientConfig, pki_types::ServerName},
};

/// Addresses of a name that are looked at; one with more is not called.
const MOST_ADDRESSES: usize = 32;
/// Bytes of an answer's body that are read, so that the endpoint sees it taken; the rest is not waited for.
const MOST_BODY: usize = 64 * 1_024;
/// Bytes of an answer's head.
const MOST_HEAD: usize = 16 * 1_024;
const USER_AGENT: &str = concat!("Weir/", env!("CARGO_PKG_VERSION"), " (webhooks)");

/// What an endpoint answered, or why it did not.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Answer {
    pub(super) status: Option<u16>,
    pub(super) error: Option<String>,
    /// Seconds that it wants to be left alone.
    pub(super) retry_after: Option<u32>,
}

impl Answer {
    pub(super) fn failed(why: String) -> Self {
        Self { error: Some(why), ..Self::default() }
    }
}

/// Calls endpoints.
#[derive(Clone)]
pub(super) struct Caller {
    rules: Rules,
    tls: Option<TlsConnector>,
}

impl Caller {
    /// One that trusts the certificates that this machine trusts.
    pub(super) fn new(rules: Rules) -> Self {
        Self::by(rules, tls::trust())
    }

    fn by(rules: Rules, config: Result<Arc<ClientConfig>, rustls::Error>) -> Self {
        let tls = match config {
            Ok(config) => Some(TlsConnector::from(config)),
            Err(error) => {
                tracing::error!(%error, "no TLS: webhooks with https cannot be called");
                None
            }
        };
        Self { rules, tls }
    }

    /// Posts JSON to a URL.
    pub(super) async fn post(
        &self,
        url: &str,
        headers: &[(&'static str, String)],
        body: String,
    ) -> Answer {
        match self.try_post(url, headers, body).await {
            Ok(answer) => answer,
            Err(why) => Answer::failed(why),
        }
    }

    async fn try_post(
        &self,
        url: &str,
        headers: &[(&'static str, String)],
        body: String,
    ) -> Result<Answer, String> {
        let target = Target::parse(url, self.rules).map_err(|error| error.to_string())?;
        let mut request = Request::post(&target.path)
            .header(header::HOST, &target.authority)
            .header(header::USER_AGENT, USER_AGENT)
            .header(header::CONTENT_TYPE, "application/json");
        for (name, value) in headers {
            request = request.header(*name, value);
        }
        let request =
            request.body(Full::new(Bytes::from(body))).map_err(|error| error.to_string())?;
        let stream = self.connect(&target).await?;
        match target.scheme {
            Scheme::Http => exchange(stream, request).await,
            Scheme::Https => {
                let tls = self.tls.as_ref().ok_or("this service cannot speak TLS")?;
                let name = match &target.host {
                    Host::Name(name) => {
                        ServerName::try_from(name.clone()).map_err(|error| error.to_string())?
                    }
                    Host::Address(address) => ServerName::from(*address),
                };
                let stream =
                    tls.connect(name, stream).await.map_err(|error| format!("TLS: {error}"))?;
                exchange(stream, request).await
            }
        }
    }

    /// Connects to an address that was judged, and to no other.
    async fn connect(&self, target: &Target) -> Result<TcpStream, String> {
        let addresses: Vec<SocketAddr> = match &target.host {
            Host::Address(address) => vec![SocketAddr::new(*address, target.port)],
            Host::Name(name) => {
                let asked = absolute(name);
                let found = lookup_host((asked.as_str(), target.port)).await;
                let found = found.map_err(|error| format!("{name} cannot be resolved: {error}"))?;
                found.take(MOST_ADDRESSES.saturating_add(1)).collect()
            }
        };
        judge(self.rules, addresses.iter().map(SocketAddr::ip))?;
        TcpStream::connect(addresses.as_slice()).await.map_err(|error| connecting(&error))
    }
}

/// A name as the resolver takes it without its search list: what is asked for is what was written.
fn absolute(name: &str) -> String {
    if name.contains('.') { format!("{name}.") } else { name.to_owned() }
}

/// A name with one address inside is not called at all: whichever is connected to must not be a matter of chance.
fn judge(rules: Rules, addresses: impl Iterator<Item = IpAddr>) -> Result<(), String> {
    let mut count = 0_usize;
    for address in addresses {
        count = count.saturating_add(1);
        if !rules.admit(address) {
            tracing::debug!(%address, "a webhook leads inside");
            // which one it is would tell its owner what our resolver knows
            return Err("it leads to what is not a public address".to_owned());
        }
    }
    match count {
        0 => Err("the name has no address".to_owned()),
        1..=MOST_ADDRESSES => Ok(()),
        _ => Err("the name has too many addresses".to_owned()),
    }
}

fn connecting(error: &io::Error) -> String {
    format!("no connection: {error}")
}

/// The task that drives a connection; dropped with its call, so that a slow endpoint keeps nothing open.
struct Driver(JoinHandle<()>);

impl Drop for Driver {
    fn drop(&mut self) {
        self.0.abort();
    }
}

async fn exchange<S>(stream: S, request: Request<Full<Bytes>>) -> Result<Answer, String>
where
    S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    let failed = |error: hyper::Error| format!("the exchange failed: {error}");
    let mut builder = http1::Builder::new();
    builder.max_buf_size(MOST_HEAD);
    let (mut sender, connection) = builder.handshake(TokioIo::new(stream)).await.map_err(failed)?;
    let _driver = Driver(tokio::spawn(async move {
        if let Err(error) = connection.await {
            tracing::trace!(%error, "a webhook's connection ended");
        }
    }));
    let response = sender.send_request(request).await.map_err(failed)?;
    let status = response.status().as_u16();
    let retry_after = response.headers().get(header::RETRY_AFTER);
    let retry_after = retry_after.and_then(|value| value.to_str().ok()?.trim().parse().ok());
    drain(response.into_body()).await;
    Ok(Answer { status: Some(status), error: None, retry_after })
}

/// Reads a body that nobody needs, up to a limit. The status has been told: what fails here changes nothing.
async fn drain(body: Incoming) {
    if let Err(error) = Limited::new(body, MOST_BODY).collect().await {
        tracing::trace!(%error, "a webhook's answer is not read to its end");
    }
}

#[cfg(test)]
mod tests;
