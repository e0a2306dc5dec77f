//! The agent's own key: it signs in with it and signs readings. It never leaves this machine.

use std::{fs, os::unix::fs::PermissionsExt as _};

use alloy::{
    primitives::{B256, hex},
    signers::local::PrivateKeySigner,
};

use crate::{
    AgentError,
    disk::{self, corrupt},
    state::StateDir,
};

/// The key of the folder, made at the first start: 64 hex digits that only the owner may read.
///
/// # Errors
/// [`AgentError::KeyExposed`] if others may read it, [`AgentError::Corrupt`] if it is no key, or
/// [`AgentError::Io`].
pub(crate) fn load_or_make(state: &StateDir) -> Result<PrivateKeySigner, AgentError> {
    let path = state.key();
    let Some(text) = disk::read(&path)? else {
        let key = PrivateKeySigner::random();
        disk::write(&path, hex::encode(key.to_bytes()).as_bytes())?;
        return Ok(key);
    };
    let mode = fs::metadata(&path).map_err(AgentError::io(&path))?.permissions().mode() & 0o777;
    if mode & 0o077 != 0 {
        return Err(AgentError::KeyExposed { path, mode });
    }
    // the parser's own words would repeat the key
    let bytes: B256 = text.trim().parse().map_err(|_| corrupt(&path, "not 64 hex digits"))?;
    PrivateKeySigner::from_bytes(&bytes).map_err(|_| corrupt(&path, "not a secp256k1 key"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tests::folder;

    #[test]
    fn a_key_is_made_once_for_its_owner_only() {
        let folder = folder();
        let state = StateDir::open(folder.path()).unwrap();
        let made = load_or_make(&state).unwrap();
        assert_eq!(load_or_make(&state).unwrap().address(), made.address());
        let mode = fs::metadata(state.key()).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        assert!(!format!("{made:?}").contains(&hex::encode(made.to_bytes())));
    }

    #[test]
    fn a_key_that_others_can_read_is_refused() {
        let folder = folder();
        let state = StateDir::open(folder.path()).unwrap();
        load_or_make(&state).unwrap();
        fs::set_permissions(state.key(), fs::Permissions::from_mode(0o640)).unwrap();
        let error = load_or_make(&state).unwrap_err();
        assert!(matches!(error, AgentError::KeyExposed { mode: 0o640, .. }), "{error}");
    }

    #[test]
    fn a_damaged_key_is_refused_without_repeating_it() {
        let folder = folder();
        let state = StateDir::open(folder.path()).unwrap();
        for text in ["", "abc123", &"0".repeat(64), &"f".repeat(64)] {
            disk::write(&state.key(), text.as_bytes()).unwrap();
            let error = load_or_make(&state).unwrap_err().to_string();
            assert!(error.contains("agent.key is damaged"), "{error}");
            assert!(!error.contains("abc123") && !error.contains("ffff"), "{error}");
        }
    }
}
