//! Errors by what the caller can do.

use alloy::{
    primitives::Bytes,
    transports::{RpcError, TransportErrorKind},
};
use serde::Deserialize;
use thiserror::Error;

/// JSON-RPC's code of a node's own trouble.
pub(crate) const INTERNAL_ERROR: i64 = -32_603;

/// Why the chain did not answer as asked.
#[derive(Clone, Debug, Error)]
pub enum ChainError {
    /// No answer, a broken one, or the node's own trouble: ask again later.
    #[error("the chain's RPC did not answer: {0}")]
    Unavailable(String),
    /// The call reverts; `data` holds the contract's reason.
    #[error("the call reverts")]
    Reverts {
        /// Raw revert data.
        data: Bytes,
    },
    /// The node refuses the request as such.
    #[error("the node refused: {message} ({code})")]
    Refused {
        /// JSON-RPC error code.
        code: i64,
        /// The node's words.
        message: String,
    },
    /// The answer is not what the protocol allows.
    #[error("the node's answer makes no sense: {0}")]
    Nonsense(String),
}

impl ChainError {
    /// True if there was no answer to the question: the endpoint is to blame.
    pub(crate) const fn is_trouble(&self) -> bool {
        match self {
            Self::Unavailable(_) | Self::Nonsense(_) => true,
            Self::Reverts { .. } | Self::Refused { .. } => false,
        }
    }

    /// True for a refusal that another node need not share. The question may still be what causes it, so that it
    /// is no mark against the node.
    pub(crate) fn is_of_this_node(&self) -> bool {
        match self {
            Self::Refused { code, message } => {
                let message = message.to_lowercase();
                *code == INTERNAL_ERROR
                    || ["rate limit", "too many requests", "request limit", "capacity"]
                        .iter()
                        .any(|words| message.contains(words))
            }
            Self::Unavailable(_) | Self::Nonsense(_) | Self::Reverts { .. } => false,
        }
    }
}

impl From<RpcError<TransportErrorKind>> for ChainError {
    fn from(error: RpcError<TransportErrorKind>) -> Self {
        if let Some(response) = error.as_error_resp() {
            return match response.as_revert_data() {
                Some(data) => Self::Reverts { data },
                None => {
                    Self::Refused { code: response.code, message: response.message.to_string() }
                }
            };
        }
        // Some providers answer a question that they refuse with HTTP 400 and the refusal in the body. 429 is
        // about how often we ask, not about what.
        if let RpcError::Transport(TransportErrorKind::HttpError(http)) = &error
            && (400..500).contains(&http.status)
            && http.status != 429
            && let Ok(Body { error: Refusal { code, message, data } }) =
                serde_json::from_str(&http.body)
        {
            return match data.filter(|_| message.contains("revert")) {
                Some(data) => Self::Reverts { data },
                None => Self::Refused { code, message },
            };
        }
        Self::Unavailable(in_words(error))
    }
}

/// With the causes, which alone say that a certificate is not trusted; without the URL, which may hold a key.
fn in_words(error: RpcError<TransportErrorKind>) -> String {
    let RpcError::Transport(TransportErrorKind::Custom(custom)) = error else {
        return error.to_string();
    };
    match custom.downcast::<reqwest::Error>() {
        Ok(http) => tls::causes(&http.without_url()),
        Err(custom) => custom.to_string(),
    }
}

/// A refusal that came with an HTTP error.
#[derive(Deserialize)]
struct Body {
    error: Refusal,
}

#[derive(Deserialize)]
struct Refusal {
    code: i64,
    message: String,
    data: Option<Bytes>,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn http(status: u16, body: &str) -> ChainError {
        ChainError::from(TransportErrorKind::http_error(status, body.to_owned()))
    }

    #[test]
    fn a_refusal_in_the_body_of_an_http_error_is_the_nodes_word() {
        let body =
            r#"{"jsonrpc":"2.0","id":1,"error":{"code":-32602,"message":"block range too wide"}}"#;
        assert!(matches!(http(400, body), ChainError::Refused { code: -32_602, .. }));
        let reverted = r#"{"error":{"code":3,"message":"execution reverted","data":"0x01"}}"#;
        assert!(matches!(http(400, reverted), ChainError::Reverts { data } if data.len() == 1));
        for (status, text) in [(429, body), (500, body), (502, "<html>"), (400, "no JSON")] {
            assert!(http(status, text).is_trouble(), "{status}");
        }
    }

    #[test]
    fn a_refusal_is_no_trouble_but_may_be_one_nodes_own() {
        let said = |code, message: &str| ChainError::Refused { code, message: message.to_owned() };
        assert!(!said(-32_000, "header not found").is_trouble());
        assert!(!said(-32_603, "internal error").is_trouble());
        assert!(said(-32_603, "internal error").is_of_this_node());
        assert!(said(-32_005, "daily request limit reached").is_of_this_node());
        assert!(said(-32_000, "Too Many Requests").is_of_this_node());
        assert!(!said(-32_000, "execution reverted").is_of_this_node());
    }
}
