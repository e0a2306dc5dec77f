//! A node before the node, as single tests use it: it passes everything on, and says what it is told to say
//! differently.

use serde_json::Value;
use testkit::RpcProxy;

pub struct Proxy {
    pub url: String,
    proxy: RpcProxy,
}

impl Proxy {
    pub async fn before(node: &str) -> Self {
        let proxy = RpcProxy::before(node, 0).await.unwrap();
        Self { url: proxy.url().to_owned(), proxy }
    }

    pub fn meddle(&self, with: impl Fn(&str, &Value, &mut Value) + Send + 'static) {
        self.proxy.meddle(with);
    }

    pub fn behave(&self) {
        self.proxy.behave();
    }
}
