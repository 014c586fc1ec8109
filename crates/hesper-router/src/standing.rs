//! What the controller tells a router about itself, and how it is kept for a start without a controller.

use crate::links::{MAX_PEERS, Peer};
use hesper_model::id::{EdgeRouterId, Tag};
use hesper_pki::{
    digest,
    files::{self, FileError},
    token::Verifier,
};
use hesper_proto::control::{RouterPeer, RouterState, TokenKey};
use serde::{Deserialize, Serialize};
use std::{
    fmt,
    path::{Path, PathBuf},
};

/// Size limit of the file: as many other routers as are taken in.
const MAX_FILE: u64 = 1 << 20;

/// 32 bytes that are written as hexadecimal digits.
#[derive(Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub(crate) struct Key32(pub(crate) [u8; 32]);

impl TryFrom<String> for Key32 {
    type Error = &'static str;
    fn try_from(text: String) -> Result<Self, Self::Error> {
        let mut key = [0; 32];
        let digits = text.as_bytes();
        if digits.len() != 64 || !digits.iter().all(u8::is_ascii_hexdigit) {
            return Err("a key is 64 hexadecimal digits");
        }
        for (byte, pair) in key.iter_mut().zip(digits.chunks(2)) {
            let pair = std::str::from_utf8(pair).map_err(|_| "a key is 64 hexadecimal digits")?;
            *byte = u8::from_str_radix(pair, 16).map_err(|_| "a key is 64 hexadecimal digits")?;
        }
        Ok(Self(key))
    }
}

impl From<Key32> for String {
    fn from(key: Key32) -> Self {
        digest::hex(&key.0)
    }
}

/// The router's standing with its controller: who it is, what knocks open it, whose tokens it accepts.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Standing {
    pub(crate) router_id: EdgeRouterId,
    pub(crate) tag: Tag,
    pub(crate) knock_secret: Key32,
    /// Key id and Ed25519 public key.
    pub(crate) token_keys: Vec<(String, Key32)>,
    /// The other routers, so that links come back without a controller.
    #[serde(default)]
    pub(crate) peers: Vec<Peer>,
    /// When the controller was last heard of, seconds since the epoch.
    pub(crate) last_contact: u64,
}

impl fmt::Debug for Standing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Standing({}, tag {}, {} token keys)", self.router_id, self.tag, self.token_keys.len())
    }
}

/// A state from the controller that makes no sense.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("the controller's router state has no usable {0}")]
pub(crate) struct InvalidState(&'static str);

/// Why the kept standing cannot be used.
#[derive(Debug, thiserror::Error)]
pub(crate) enum StandingError {
    #[error(transparent)]
    File(#[from] FileError),
    #[error("{} is damaged; it is fetched again from the controller if you remove it", path.display())]
    Damaged { path: PathBuf, source: serde_json::Error },
}

impl Standing {
    /// Reads the controller's message.
    pub(crate) fn from_state(state: &RouterState, now: u64) -> Result<Self, InvalidState> {
        let token_keys = state.token_keys.iter().map(token_key).collect::<Result<Vec<_>, _>>()?;
        if state.router_id.is_empty() {
            return Err(InvalidState("router id"));
        }
        if token_keys.is_empty() {
            return Err(InvalidState("token key"));
        }
        Ok(Self {
            router_id: EdgeRouterId::new(&state.router_id),
            tag: Tag::from_slice(&state.tag).ok_or(InvalidState("tag"))?,
            knock_secret: key32(&state.knock_secret).ok_or(InvalidState("knock secret"))?,
            token_keys,
            peers: peers(state),
            last_contact: now,
        })
    }

    /// Verifies what the controller signed.
    pub(crate) fn verifier(&self) -> Verifier {
        Verifier::new(self.token_keys.iter().map(|(kid, key)| (kid.clone(), key.0)))
    }

    /// Reads the file; `None` if there is none yet.
    pub(crate) fn load(path: &Path) -> Result<Option<Self>, StandingError> {
        let text = match files::read(path, MAX_FILE) {
            Err(e) if e.not_found() => return Ok(None),
            other => other?,
        };
        serde_json::from_str(&text)
            .map(Some)
            .map_err(|source| StandingError::Damaged { path: path.to_owned(), source })
    }

    /// Writes the file, 0600, atomically.
    pub(crate) fn save(&self, path: &Path) -> Result<(), StandingError> {
        let text = serde_json::to_vec_pretty(self)
            .map_err(|source| StandingError::Damaged { path: path.to_owned(), source })?;
        match files::write_new(path, &text) {
            Err(e) if e.already_exists() => Ok(files::replace(path, &text)?),
            other => Ok(other?),
        }
    }
}

fn token_key(key: &TokenKey) -> Result<(String, Key32), InvalidState> {
    Ok((key.kid.clone(), key32(&key.ed25519).ok_or(InvalidState("token key"))?))
}

/// The other routers. One that makes no sense costs its link and nothing else.
fn peers(state: &RouterState) -> Vec<Peer> {
    let usable = |peer: &RouterPeer| {
        Some(Peer {
            id: Some(&peer.router_id)
                .filter(|id| !id.is_empty() && **id != state.router_id)
                .map(EdgeRouterId::new)?,
            name: peer.name.clone(),
            addresses: peer.addresses.clone(),
            tag: Tag::from_slice(&peer.tag)?,
            knock_key_id: Tag::from_slice(&peer.knock_key_id)?,
            knock_key: key32(&peer.knock_key)?,
        })
    };
    let peers = state.peers.iter().filter_map(|peer| {
        let usable = usable(peer);
        if usable.is_none() {
            tracing::warn!(router = %peer.router_id, "the controller names a router that makes no sense");
        }
        usable
    });
    peers.take(MAX_PEERS).collect()
}

fn key32(bytes: &[u8]) -> Option<Key32> {
    bytes.try_into().ok().map(Key32)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn state() -> RouterState {
        RouterState {
            revision: 1,
            router_id: "r1".into(),
            tag: b"a-router".to_vec(),
            knock_secret: vec![0xa5; 32],
            token_keys: vec![TokenKey { kid: "k".into(), ed25519: vec![7; 32] }],
            peers: vec![RouterPeer {
                router_id: "r2".into(),
                name: "two".into(),
                addresses: vec!["192.0.2.1:3022".into()],
                tag: b"router-2".to_vec(),
                knock_key_id: vec![1; 8],
                knock_key: vec![0xa5; 32],
            }],
            trust: None,
        }
    }

    #[test]
    fn it_survives_a_restart_and_keeps_its_secret_to_itself() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("state.json");
        assert_eq!(Standing::load(&path).unwrap(), None);
        let standing = Standing::from_state(&state(), 1_000).unwrap();
        standing.save(&path).unwrap();
        standing.save(&path).unwrap();
        assert_eq!(Standing::load(&path).unwrap().as_ref(), Some(&standing));
        assert!(!files::is_open_to_others(&path).unwrap());
        assert!(!format!("{standing:?}").contains("a5a5"));
        std::fs::write(&path, "{").unwrap();
        assert!(Standing::load(&path).unwrap_err().to_string().contains("state.json is damaged"));
    }

    #[test]
    fn another_router_that_makes_no_sense_is_left_out() {
        let mut state = state();
        let good = state.peers[0].clone();
        for spoil in [
            (|p| p.router_id.clear()) as fn(&mut RouterPeer),
            |p| p.router_id = "r1".into(),
            |p| p.tag.push(1),
            |p| p.knock_key_id.clear(),
            |p| p.knock_key.clear(),
        ] {
            let mut peer = good.clone();
            spoil(&mut peer);
            state.peers.push(peer);
        }
        let standing = Standing::from_state(&state, 0).unwrap();
        assert_eq!(standing.peers.iter().map(|p| p.id.as_str()).collect::<Vec<_>>(), ["r2"]);
    }

    #[test]
    fn nonsense_from_the_controller_is_named() {
        let with = |change: fn(&mut RouterState)| {
            let mut state = state();
            change(&mut state);
            Standing::from_state(&state, 0).unwrap_err()
        };
        assert_eq!(with(|s| s.tag.clear()), InvalidState("tag"));
        assert_eq!(with(|s| s.router_id.clear()), InvalidState("router id"));
        assert_eq!(with(|s| s.knock_secret.push(1)), InvalidState("knock secret"));
        assert_eq!(with(|s| s.token_keys.clear()), InvalidState("token key"));
        assert_eq!(with(|s| s.token_keys[0].ed25519.clear()), InvalidState("token key"));
    }
}
