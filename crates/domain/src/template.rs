//! Templates: what runs on a rented machine, and what it needs.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::names::named_enum;

/// The most ports of a template.
pub const MAX_PORTS: usize = 64;
/// The most environment variables.
pub const MAX_ENV: usize = 64;
/// The longest value of one, in bytes.
pub const MAX_ENV_VALUE: usize = 4_096;
/// The most bytes of all names and values together: it is sent to the machine with the order.
pub const MAX_ENV_BYTES: usize = 32_768;
/// The longest readme, in characters.
pub const MAX_README: usize = 16_384;

named_enum! {
    /// How a port is spoken to.
    pub enum Protocol ("protocol") {
        /// Connections.
        Tcp => "tcp",
        /// Datagrams.
        Udp => "udp",
    }
}

/// A port that is opened.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Port {
    /// What listens there, such as `ssh`.
    pub name: String,
    /// 1 to 65535.
    pub port: u16,
    /// How it is spoken to.
    pub protocol: Protocol,
}

/// What a version of a template consists of. The fields stand in the order of their names: written as JSON they are
/// the canonical form that its hash is of.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Content {
    /// Disk in GB, 1 to 65,536.
    pub disk_gb: u32,
    /// Environment variables. They are public: no place for secrets.
    pub env: BTreeMap<String, String>,
    /// A container image with a tag or a digest.
    pub image: String,
    /// Memory of one GPU in GB that it needs, 0 to 1,024.
    pub min_vram_gb: u32,
    /// Its name for people.
    pub name: String,
    /// Ports that are opened.
    pub ports: Vec<Port>,
    /// What it is and how it is used, as Markdown.
    pub readme: String,
}

/// What is wrong with a template.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("{message}")]
pub struct TemplateError {
    /// The place, as a JSON pointer.
    pub pointer: String,
    /// What is accepted there.
    pub message: &'static str,
}

impl Content {
    /// Checks every bound.
    ///
    /// # Errors
    /// The first that is broken.
    pub fn check(&self) -> Result<(), TemplateError> {
        let must = |good: bool, pointer: &str, message: &'static str| {
            if good { Ok(()) } else { Err(TemplateError { pointer: pointer.to_owned(), message }) }
        };
        must((1..=65_536).contains(&self.disk_gb), "/disk_gb", "1 to 65536 GB")?;
        must(self.min_vram_gb <= 1_024, "/min_vram_gb", "0 to 1024 GB")?;
        must(is_title(&self.name), "/name", "1 to 64 characters, no control characters")?;
        let named = "an image with a tag or a digest, such as ubuntu:24.04, at most 255 characters";
        must(is_image(&self.image), "/image", named)?;
        must(self.readme.chars().count() <= MAX_README, "/readme", "at most 16384 characters")?;
        let kept = |c: char| !c.is_control() || matches!(c, '\n' | '\r' | '\t');
        must(
            self.readme.chars().all(kept),
            "/readme",
            "no control characters but line ends and tabs",
        )?;
        must(self.ports.len() <= MAX_PORTS, "/ports", "at most 64 ports")?;
        let mut seen = BTreeSet::new();
        for (place, port) in self.ports.iter().enumerate() {
            let at = |field: &str| format!("/ports/{place}/{field}");
            must(port.port > 0, &at("port"), "1 to 65535")?;
            must(is_port_name(&port.name), &at("name"), "1 to 32 of a-z, 0-9 and -")?;
            must(seen.insert((port.port, port.protocol)), &at("port"), "each port once")?;
        }
        must(self.env.len() <= MAX_ENV, "/env", "at most 64 variables")?;
        for (name, value) in &self.env {
            // a name may hold anything yet, so its place is the object
            must(
                is_env_name(name),
                "/env",
                "names of A-Z, 0-9 and _, not beginning with a digit, at most 64",
            )?;
            must(value.len() <= MAX_ENV_VALUE, &format!("/env/{name}"), "at most 4096 bytes")?;
            must(!value.contains('\0'), &format!("/env/{name}"), "no zero byte")?;
        }
        must(self.env_bytes() <= MAX_ENV_BYTES, "/env", "at most 32768 bytes, all together")?;
        Ok(())
    }

    /// The bytes of all environment variables, names and values.
    #[must_use]
    pub fn env_bytes(&self) -> usize {
        let bytes = |(name, value): (&String, &String)| name.len().saturating_add(value.len());
        self.env.iter().map(bytes).fold(0, usize::saturating_add)
    }
}

fn is_title(text: &str) -> bool {
    (1..=64).contains(&text.chars().count()) && !text.chars().any(char::is_control)
}

pub(crate) fn is_port_name(text: &str) -> bool {
    let good = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-';
    (1..=32).contains(&text.len()) && text.bytes().all(good)
}

fn is_env_name(text: &str) -> bool {
    let good = |b: u8| b.is_ascii_uppercase() || b.is_ascii_digit() || b == b'_';
    (1..=64).contains(&text.len())
        && text.bytes().all(good)
        && !text.starts_with(|c: char| c.is_ascii_digit())
}

/// `host:port/path:tag@digest` with at least a tag or a digest: an image without either changes under the template.
/// It begins with a letter or digit: where it stands in a command it is no option.
#[must_use]
pub fn is_image(text: &str) -> bool {
    let good = |b: u8| b.is_ascii_alphanumeric() || b"._-/:@".contains(&b);
    let last = text.rsplit('/').next().unwrap_or_default();
    let fixed = last
        .split_once([':', '@'])
        .is_some_and(|(name, rest)| !name.is_empty() && !rest.is_empty());
    text.len() <= 255
        && text.bytes().all(good)
        && text.starts_with(|c: char| c.is_ascii_alphanumeric())
        && !text.contains("//")
        && fixed
}

/// Whether this can be a template's name in addresses: 2 to 64 lowercase letters and digits with single hyphens between.
#[must_use]
pub fn is_slug(text: &str) -> bool {
    let good = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit();
    (2..=64).contains(&text.len())
        && text.split('-').all(|word| !word.is_empty() && word.bytes().all(good))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn content() -> Content {
        Content {
            disk_gb: 20,
            env: BTreeMap::from([("MODE".to_owned(), "fast".to_owned())]),
            image: "ubuntu:24.04".to_owned(),
            min_vram_gb: 8,
            name: "Ubuntu".to_owned(),
            ports: vec![Port { name: "ssh".to_owned(), port: 22, protocol: Protocol::Tcp }],
            readme: "# Ubuntu".to_owned(),
        }
    }

    #[test]
    fn the_written_form_is_sorted_and_has_no_spaces() {
        assert_eq!(
            serde_json::to_string(&content()).unwrap(),
            "{\"disk_gb\":20,\"env\":{\"MODE\":\"fast\"},\"image\":\"ubuntu:24.04\",\"min_vram_gb\":8,\
             \"name\":\"Ubuntu\",\"ports\":[{\"name\":\"ssh\",\"port\":22,\"protocol\":\"tcp\"}],\
             \"readme\":\"# Ubuntu\"}"
        );
    }

    #[test]
    fn images_are_named_with_what_fixes_them() {
        for good in [
            "ubuntu:24.04",
            "ghcr.io/a/b:1",
            "host:5000/a@sha256:0f",
            "pytorch/pytorch:2.8.0-cuda12.8",
        ] {
            assert!(is_image(good), "{good}");
        }
        for bad in [
            "ubuntu",
            "host:5000/a",
            "a b:1",
            "/a:1",
            "-v/:/host:rw",
            "--a:1",
            "a//b:1",
            ":1",
            "a:",
            "http://x/a:1",
            "a:1\n",
        ] {
            assert!(!is_image(bad), "{bad}");
        }
    }

    #[test]
    fn each_bound_names_its_place() {
        let edit = |change: fn(&mut Content)| {
            let mut content = content();
            change(&mut content);
            content.check().map_err(|error| error.pointer)
        };
        assert_eq!(edit(|_| {}), Ok(()));
        type Change = fn(&mut Content);
        let refused: [(Change, &str); 11] = [
            (|c| c.disk_gb = 0, "/disk_gb"),
            (|c| c.min_vram_gb = 1_025, "/min_vram_gb"),
            (|c| c.name.clear(), "/name"),
            (|c| c.image = "ubuntu".to_owned(), "/image"),
            (|c| c.readme = "x".repeat(MAX_README + 1), "/readme"),
            (|c| c.ports[0].port = 0, "/ports/0/port"),
            (|c| c.ports[0].name = "S S".to_owned(), "/ports/0/name"),
            (|c| c.ports.push(c.ports[0].clone()), "/ports/1/port"),
            (|c| drop(c.env.insert("a-b".to_owned(), String::new())), "/env"),
            (|c| drop(c.env.insert("A".to_owned(), "x".repeat(MAX_ENV_VALUE + 1))), "/env/A"),
            (
                |c| c.env.extend((0..8).map(|n| (format!("A{n}"), "x".repeat(MAX_ENV_VALUE)))),
                "/env",
            ),
        ];
        for (change, pointer) in refused {
            assert_eq!(edit(change), Err(pointer.to_owned()));
        }
    }

    #[test]
    fn slugs_are_words_between_hyphens() {
        assert!(is_slug("ubuntu-ssh") && is_slug("x1"));
        for bad in ["", "a", "A-b", "a--b", "-a", "a_b", &"a".repeat(65)] {
            assert!(!is_slug(bad), "{bad}");
        }
    }
}
