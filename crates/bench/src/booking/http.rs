//! HTTP/1.1 over one kept connection, and no more of it than a renter's program needs: the client's time is taken from
//! the same cores, and pgbench's client is a lean one, too.

use std::io::Write as _;

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};

use crate::BenchError;

const DOING: &str = "book over HTTP";
/// An answer's head and body together.
const MOST: usize = 256 * 1_024;

/// One connection.
pub(super) struct Wire {
    stream: TcpStream,
    host: String,
    sent: Vec<u8>,
    got: Vec<u8>,
}

/// An answer.
pub(super) struct Reply<'a> {
    pub(super) status: u16,
    /// The head's lines, in small letters.
    head: String,
    pub(super) body: &'a [u8],
}

impl Reply<'_> {
    /// The header with this name in small letters, or nothing.
    pub(super) fn header(&self, name: &str) -> &str {
        let line = |line: &'_ str| line.strip_prefix(name)?.strip_prefix(':').map(str::len);
        let found = self.head.lines().find_map(|text| Some((text, line(text)?)));
        found.map_or("", |(text, rest)| {
            text.get(text.len().saturating_sub(rest)..).unwrap_or("").trim()
        })
    }
}

impl Wire {
    pub(super) async fn open(url: &str) -> Result<Self, BenchError> {
        let host = url.strip_prefix("http://").unwrap_or(url).to_owned();
        let stream = TcpStream::connect(&host).await.map_err(BenchError::io(DOING))?;
        stream.set_nodelay(true).map_err(BenchError::io(DOING))?;
        Ok(Self { stream, host, sent: Vec::new(), got: Vec::new() })
    }

    /// Sends a request to book and reads the whole answer.
    pub(super) async fn book(
        &mut self,
        session: &str,
        key: &str,
        body: &str,
    ) -> Result<Reply<'_>, BenchError> {
        self.sent.clear();
        write!(
            self.sent,
            "POST /v1/rentals HTTP/1.1\r\nhost: {}\r\naccept: */*\r\nauthorization: Bearer {session}\r\n\
             idempotency-key: {key}\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n{body}",
            self.host,
            body.len(),
        )
        .map_err(BenchError::io(DOING))?;
        self.stream.write_all(&self.sent).await.map_err(BenchError::io(DOING))?;
        self.got.clear();
        let (head, length) = loop {
            self.more().await?;
            if let Some(found) = head_of(&self.got)? {
                break found;
            }
        };
        let end = head.saturating_add(length);
        while self.got.len() < end {
            self.more().await?;
        }
        let text = |bytes: Option<&[u8]>| {
            String::from_utf8_lossy(bytes.unwrap_or_default()).to_lowercase()
        };
        let head_text = text(self.got.get(..head));
        let status = head_text.split(' ').nth(1).and_then(|word| word.parse().ok());
        let status = status.ok_or_else(|| nonsense("an answer without a status"))?;
        let body = self.got.get(head..end).unwrap_or_default();
        Ok(Reply { status, head: head_text, body })
    }

    async fn more(&mut self) -> Result<(), BenchError> {
        self.got.reserve(8 * 1_024);
        let count = self.stream.read_buf(&mut self.got).await.map_err(BenchError::io(DOING))?;
        if count == 0 || self.got.len() > MOST {
            return Err(nonsense("an answer without an end"));
        }
        Ok(())
    }
}

fn nonsense(what: &str) -> BenchError {
    BenchError::subject(DOING)(what)
}

/// How long the head is, and the body after it; `None` while the head is not whole.
fn head_of(got: &[u8]) -> Result<Option<(usize, usize)>, BenchError> {
    let Some(at) = got.windows(4).position(|window| window == b"\r\n\r\n") else { return Ok(None) };
    let head = String::from_utf8_lossy(got.get(..at).unwrap_or_default());
    let length = head.lines().find_map(|line| {
        let (name, value) = line.split_once(':')?;
        name.eq_ignore_ascii_case("content-length").then(|| value.trim().parse().ok())?
    });
    let length = length.ok_or_else(|| nonsense("an answer without a length"))?;
    Ok(Some((at.saturating_add(4), length)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_head_is_read_when_it_is_whole() {
        assert_eq!(head_of(b"HTTP/1.1 201 Created\r\nContent-Length: 12\r\n").unwrap(), None);
        let whole = b"HTTP/1.1 201 Created\r\nContent-Length: 12\r\n\r\nxy";
        assert_eq!(head_of(whole).unwrap(), Some((whole.len() - 2, 12)));
        assert!(head_of(b"HTTP/1.1 201 Created\r\nServer: x\r\n\r\n").is_err());
    }

    #[test]
    fn headers_are_found_by_their_names() {
        let head = "http/1.1 201 created\r\nlocation: /v1\r\nidempotent-replayed: true".to_owned();
        let reply = Reply { status: 201, head, body: b"" };
        assert_eq!(reply.header("idempotent-replayed"), "true");
        assert_eq!((reply.header("location"), reply.header("loc")), ("/v1", ""));
    }
}
