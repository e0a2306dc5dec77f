//! As much of HTTP/1.1 as JSON-RPC needs: one message after the other, each with its length told.

use std::io;

use tokio::{
    io::{AsyncBufRead, AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader},
    net::TcpStream,
};

/// No request or answer of a node is longer.
const MAX_BODY: usize = 32 << 20;
/// No message has more header lines, and none of them is longer than this many bytes.
const MAX_LINES: usize = 100;
const MAX_LINE: u64 = 16 << 10;

/// The body of the next message; `None` at the end of the connection.
pub(super) async fn message(
    stream: &mut (impl AsyncBufRead + Unpin),
) -> io::Result<Option<Vec<u8>>> {
    let mut length = 0_usize;
    for number in 0..MAX_LINES {
        let mut line = String::new();
        if (&mut *stream).take(MAX_LINE).read_line(&mut line).await? == 0 {
            // between two messages it is the end, inside one it is a cut
            return if number == 0 { Ok(None) } else { Err(io::ErrorKind::UnexpectedEof.into()) };
        }
        let line = line.trim().to_ascii_lowercase();
        if line.is_empty() {
            if length > MAX_BODY {
                return Err(io::Error::other("the message is too long"));
            }
            let mut body = vec![0; length];
            stream.read_exact(&mut body).await?;
            return Ok(Some(body));
        }
        if let Some(told) = line.strip_prefix("content-length:") {
            length = told.trim().parse().map_err(io::Error::other)?;
        } else if line.starts_with("transfer-encoding:") {
            return Err(io::Error::other("a message without its length"));
        }
    }
    Err(io::Error::other("too many header lines"))
}

/// Writes an answer with this status line, such as `200 OK`.
pub(super) async fn answer(stream: &mut TcpStream, status: &str, body: &str) -> io::Result<()> {
    let head = format!(
        "HTTP/1.1 {status}\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n",
        body.len()
    );
    stream.write_all(&[head.as_bytes(), body.as_bytes()].concat()).await
}

/// A connection to the node, made when it is first needed and made anew when it broke.
pub(super) struct Node {
    address: String,
    stream: Option<BufReader<TcpStream>>,
}

impl Node {
    pub(super) fn new(address: String) -> Self {
        Self { address, stream: None }
    }

    /// Sends a body and waits for the node's.
    pub(super) async fn ask(&mut self, body: &str) -> io::Result<Vec<u8>> {
        let reused = self.stream.is_some();
        match self.once(body).await {
            // the node closes what was idle for long; nothing was taken then
            Err(_) if reused => self.once(body).await,
            done => done,
        }
    }

    async fn once(&mut self, body: &str) -> io::Result<Vec<u8>> {
        let mut stream = match self.stream.take() {
            Some(stream) => stream,
            None => BufReader::new(TcpStream::connect(&self.address).await?),
        };
        let head = format!(
            "POST / HTTP/1.1\r\nhost: {}\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n",
            self.address,
            body.len()
        );
        stream.get_mut().write_all(&[head.as_bytes(), body.as_bytes()].concat()).await?;
        let answer =
            message(&mut stream).await?.ok_or(io::Error::from(io::ErrorKind::UnexpectedEof))?;
        self.stream = Some(stream);
        Ok(answer)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn read(mut bytes: &[u8]) -> io::Result<Option<Vec<u8>>> {
        message(&mut bytes).await
    }

    #[tokio::test]
    async fn a_message_is_its_length_long() {
        let two = b"POST / HTTP/1.1\r\nContent-Length: 2\r\n\r\n{}rest";
        assert_eq!(read(two).await.unwrap().unwrap(), b"{}");
        assert_eq!(read(b"").await.unwrap(), None);
        assert!(read(b"POST / HTTP/1.1\r\nContent-Length: 2\r\n\r\n{").await.is_err());
        assert!(read(b"POST / HTTP/1.1\r\nContent-").await.is_err());
        assert!(read(b"POST / HTTP/1.1\r\nContent-Length: 99999999999\r\n\r\n").await.is_err());
        assert!(read(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n").await.is_err());
    }
}
