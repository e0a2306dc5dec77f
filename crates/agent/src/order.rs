//! What was ordered beside the GPUs: told to the program that is started, as a file `order.json` of the workload's folder
//! and as variables. Nothing of it is acted on here.

use std::{
    collections::BTreeMap,
    ffi::OsString,
    fs::DirBuilder,
    os::unix::fs::DirBuilderExt as _,
    path::{Path, PathBuf},
};

use domain::template::is_image;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::{AgentError, disk};

/// Where a program finds the file.
const VARIABLE: &str = "WEIR_ORDER_FILE";
/// The file's name in the workload's folder.
const FILE: &str = "order.json";
/// Names that belong to the machine, whatever a template says.
const OURS: [&str; 3] = ["WEIR_", "CUDA_", "NVIDIA_"];
/// A little more than the service lets a template have.
const MOST_PORTS: usize = 64;
const MOST_ENV: usize = 64;

/// The order, as far as this agent understands it. What a newer service adds is passed over; what an older one leaves out
/// is nothing.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct Ordered {
    /// `slug@version`; none if the provider's own program is what is wanted.
    pub(crate) template: Option<String>,
    /// What the template says; none also where an older service sends the name only.
    pub(crate) run: Option<Run>,
    /// GB beyond what every rental gets.
    pub(crate) disk_gb: u32,
    pub(crate) network: Network,
}

/// What a template says.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Run {
    /// With a tag or a digest.
    pub(crate) image: String,
    #[serde(default)]
    pub(crate) ports: Vec<Port>,
    #[serde(default)]
    pub(crate) env: BTreeMap<String, String>,
    #[serde(default)]
    pub(crate) content_hash: String,
}

/// A port that the image listens on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Port {
    pub(crate) name: String,
    pub(crate) port: u16,
    /// `tcp` or `udp`.
    pub(crate) protocol: String,
}

/// Traffic that is paid for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct Network {
    /// GB sent.
    pub(crate) up_gb: u32,
    /// GB received.
    pub(crate) down_gb: u32,
    /// In so many seconds; with more time comes more traffic.
    pub(crate) over_s: u32,
}

impl Ordered {
    /// Of an order's payload.
    ///
    /// # Errors
    /// What cannot be read: then it is not known what is to run.
    pub(crate) fn of(payload: &Value) -> Result<Self, serde_json::Error> {
        if payload.is_null() { Ok(Self::default()) } else { Self::deserialize(payload) }
    }

    /// Of a workload's folder; nothing where an earlier agent left no file.
    ///
    /// # Errors
    /// [`AgentError::Io`] or [`AgentError::Corrupt`].
    pub(crate) fn read(folder: &Path) -> Result<Self, AgentError> {
        Ok(disk::read_json(&file(folder))?.unwrap_or_default())
    }

    /// Writes the file.
    ///
    /// # Errors
    /// [`AgentError::Io`]; the file is as it was.
    pub(crate) fn write(&self, folder: &Path) -> Result<(), AgentError> {
        let mut builder = DirBuilder::new();
        builder.recursive(true).mode(0o700).create(folder).map_err(AgentError::io(folder))?;
        disk::write_json(&file(folder), self)
    }

    /// Whether a template is named that is not there to be run, or whose image is no name of one: it stands among the words
    /// of a command, and could be one of its options.
    pub(crate) fn lacks_its_template(&self) -> bool {
        let image = self.run.as_ref().is_some_and(|run| is_image(&run.image));
        self.template.is_some() && !image
    }

    /// The variables that the program gets. What the template's author wrote is in none but their values, and each value of
    /// the template's environment under a name of ours, `WEIR_ENV_...`: it may be anybody's, and a program is not
    /// given a `PATH`, `LD_PRELOAD` or `BASH_ENV` by anybody.
    pub(crate) fn variables(&self, folder: &Path) -> Vec<(String, OsString)> {
        let mut told: Vec<(String, OsString)> = vec![
            (VARIABLE.to_owned(), file(folder).into()),
            ("WEIR_DISK_GB".to_owned(), self.disk_gb.to_string().into()),
            ("WEIR_UP_GB".to_owned(), self.network.up_gb.to_string().into()),
            ("WEIR_DOWN_GB".to_owned(), self.network.down_gb.to_string().into()),
            ("WEIR_OVER_S".to_owned(), self.network.over_s.to_string().into()),
        ];
        let (Some(template), Some(run)) = (&self.template, &self.run) else { return told };
        told.push(("WEIR_TEMPLATE".to_owned(), template.into()));
        told.push(("WEIR_TEMPLATE_HASH".to_owned(), clean(&run.content_hash).into()));
        told.push(("WEIR_IMAGE".to_owned(), clean(&run.image).into()));
        told.push(("WEIR_PORTS".to_owned(), run.port_list().into()));
        let env = run.own_env();
        let names: Vec<&str> = env.iter().map(|(name, _)| *name).collect();
        told.push(("WEIR_ENVIRONMENT".to_owned(), names.join(" ").into()));
        let named = env.into_iter().map(|(name, value)| (format!("WEIR_ENV_{name}"), value.into()));
        told.extend(named);
        told
    }
}

impl Run {
    /// `name=number/protocol`, with spaces between.
    fn port_list(&self) -> String {
        let listed = self.ports.iter().take(MOST_PORTS).filter(|port| port.is_plain());
        let listed = listed.map(|port| format!("{}={}/{}", port.name, port.port, port.protocol));
        listed.collect::<Vec<_>>().join(" ")
    }

    /// The environment without what is the machine's own, and without what is no variable.
    fn own_env(&self) -> Vec<(&str, &str)> {
        let plain = |b: u8| b.is_ascii_uppercase() || b.is_ascii_digit() || b == b'_';
        let good = |name: &str, value: &str| {
            (1..=64).contains(&name.len())
                && name.bytes().all(plain)
                && !OURS.iter().any(|prefix| name.starts_with(prefix))
                && !value.contains('\0')
        };
        let mut taken = Vec::new();
        for (name, value) in self.env.iter().take(MOST_ENV) {
            if good(name, value) {
                taken.push((name.as_str(), value.as_str()));
            } else {
                tracing::warn!(variable = ?name, "a variable of the template is left out");
            }
        }
        taken
    }
}

impl Port {
    fn is_plain(&self) -> bool {
        let good = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-';
        self.port > 0
            && !self.name.is_empty()
            && self.name.bytes().all(good)
            && matches!(self.protocol.as_str(), "tcp" | "udp")
    }
}

/// A text that can be a variable's value.
fn clean(text: &str) -> String {
    text.chars().filter(|c| !c.is_control()).collect()
}

/// The file of a workload's folder.
fn file(folder: &Path) -> PathBuf {
    folder.join(FILE)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use serde_json::json;

    use super::*;
    use crate::tests::folder;

    fn payload() -> Value {
        json!({
            "gpus": ["GPU-1"], "ssh_keys": [], "disk_gb": 200, "template": "trainer@3", "later": {"more": 1},
            "network": {"up_gb": 50, "down_gb": 100, "over_s": 3_600, "burst": true},
            "run": {
                "image": "ghcr.io/me/trainer:1.4@sha256:0f", "content_hash": "sha256:aa", "entry": "/x",
                "ports": [{"name": "ssh", "port": 22, "protocol": "tcp", "public": 1},
                          {"name": "a b", "port": 1, "protocol": "tcp"}],
                "env": {"MODE": "fast and\nloose", "PATH": "/evil", "LD_PRELOAD": "/evil.so",
                        "BASH_ENV": "/evil", "WEIR_IMAGE": "evil", "CUDA_VISIBLE_DEVICES": "all",
                        "NVIDIA_VISIBLE_DEVICES": "all", "a=b": "c", "NAMES": "", "NUL": "\0"},
            },
        })
    }

    #[test]
    fn newer_and_older_services_are_understood() {
        let ordered = Ordered::of(&payload()).unwrap();
        assert_eq!(ordered.network, Network { up_gb: 50, down_gb: 100, over_s: 3_600 });
        assert!(!ordered.lacks_its_template());
        // before templates were sent, and before anything was
        let named =
            Ordered::of(&json!({"gpus": [], "template": "trainer@3", "disk_gb": 1})).unwrap();
        assert!(named.lacks_its_template());
        let option = json!({"template": "a@1", "run": {"image": "-v/:/host:rw"}});
        assert!(Ordered::of(&option).unwrap().lacks_its_template());
        for nothing in [Value::Null, json!({}), json!({"template": null, "run": null})] {
            assert_eq!(Ordered::of(&nothing).unwrap(), Ordered::default());
        }
        assert!(Ordered::of(&json!({"template": "a@1", "run": {"image": 5}})).is_err());
    }

    #[test]
    fn the_file_comes_back_and_is_its_owners() {
        let folder = folder();
        let place = folder.path().join("deep/rental");
        assert_eq!(Ordered::read(&place).unwrap(), Ordered::default());
        let mut ordered = Ordered::of(&payload()).unwrap();
        // as much as there may be, in the letters that take the most room
        let long = "\u{1}".repeat(4_096);
        ordered.run.as_mut().unwrap().env =
            (0..64).map(|n| (format!("A{n}"), long.clone())).collect();
        ordered.write(&place).unwrap();
        assert_eq!(Ordered::read(&place).unwrap(), ordered);
        let mode = std::fs::metadata(file(&place)).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
    }

    #[test]
    fn a_templates_words_are_values_and_never_names_of_the_programs_own() {
        let ordered = Ordered::of(&payload()).unwrap();
        let told: BTreeMap<String, OsString> =
            ordered.variables(Path::new("/w")).into_iter().collect();
        assert!(told.keys().all(|name| name.starts_with("WEIR_")), "{told:?}");
        for (name, value) in [
            ("WEIR_ORDER_FILE", "/w/order.json"),
            ("WEIR_TEMPLATE", "trainer@3"),
            ("WEIR_TEMPLATE_HASH", "sha256:aa"),
            ("WEIR_IMAGE", "ghcr.io/me/trainer:1.4@sha256:0f"),
            ("WEIR_DISK_GB", "200"),
            ("WEIR_UP_GB", "50"),
            ("WEIR_DOWN_GB", "100"),
            ("WEIR_OVER_S", "3600"),
            ("WEIR_PORTS", "ssh=22/tcp"),
            ("WEIR_ENVIRONMENT", "BASH_ENV LD_PRELOAD MODE NAMES PATH"),
            ("WEIR_ENV_MODE", "fast and\nloose"),
            ("WEIR_ENV_PATH", "/evil"),
        ] {
            assert_eq!(told.get(name), Some(&value.into()), "{name}");
        }
        assert_eq!(told.len(), 5 + 5 + 5);
        let none = Ordered::default().variables(Path::new("/w"));
        assert_eq!(none.len(), 5, "nothing of a template: {none:?}");
    }
}
