//! Lines `user:encoded password` as a table of users.

use super::{
    encoded::Encoded,
    verdicts::{Gate, Verdicts},
};
use hesper_otlp::Refusal;
use ring::{hmac, rand::SystemRandom};
use std::{collections::HashMap, sync::Arc};

/// Who may come in. Read anew it is another table, and nothing that was found out with the one before counts.
pub(super) struct Users {
    key: Arc<hmac::Key>,
    users: HashMap<String, Arc<Encoded>>,
    /// The same, in any order: what unknown users are checked against.
    decoys: Vec<Arc<Encoded>>,
    verdicts: Verdicts,
}

impl Users {
    /// Reads lines out of texts with names. Of two lines for one user the later one counts, also that of a later text. Lines
    /// without a colon, blank ones and those that begin with `#` are left out, as Apache does.
    ///
    /// # Errors
    /// A line that begins like a hash and is none; the text names it, and not what it says.
    pub(super) fn parse(texts: &[(&str, &str)]) -> Result<Self, String> {
        let key = hmac::Key::generate(hmac::HMAC_SHA256, &SystemRandom::new())
            .map_err(|_| "this machine gives no random numbers".to_owned())?;
        let mut users = HashMap::new();
        for (name, text) in texts {
            for (i, line) in
                text.lines().map(str::trim).enumerate().filter(|(_, line)| !line.starts_with('#'))
            {
                let Some((user, encoded)) = line.split_once(':') else { continue };
                let encoded = Encoded::parse(encoded, &key)
                    .map_err(|e| format!("the password of '{user}' in line {} of {name}: {e}", i + 1))?;
                users.insert(user.to_owned(), Arc::new(encoded));
            }
        }
        if users.is_empty() {
            tracing::warn!(sources = ?texts.iter().map(|(name, _)| name).collect::<Vec<_>>(), "no user may come in");
        }
        let decoys = users.values().cloned().collect();
        Ok(Self { key: Arc::new(key), users, decoys, verdicts: Verdicts::default() })
    }

    /// Is it the password of that user? An unknown user is checked, too, against somebody's: always the same one for that name, so
    /// that the time tells as little as if it were known.
    ///
    /// # Errors
    /// Too much is being checked already.
    pub(super) async fn is_password(
        &self,
        user: &str,
        password: &[u8],
        gate: &Gate,
    ) -> Result<bool, Refusal> {
        let known = self.users.get(user);
        let Some(encoded) = known.or_else(|| self.decoy(user)).cloned() else { return Ok(false) };
        let right = if encoded.is_costly() {
            let digest = self.digest(user, password);
            let (key, password) = (self.key.clone(), password.to_vec());
            self.verdicts.of(digest, gate, move || encoded.is(&password, &key)).await?
        } else {
            encoded.is(password, &self.key)
        };
        Ok(right && known.is_some())
    }

    fn decoy(&self, user: &str) -> Option<&Arc<Encoded>> {
        let tag = hmac::sign(&self.key, user.as_bytes());
        let number = tag.as_ref().iter().take(4).fold(0_usize, |n, byte| n << 8 | usize::from(*byte));
        self.decoys.get(number.checked_rem(self.decoys.len())?)
    }

    /// What the verdict about these is kept under: nobody can tell them from it.
    fn digest(&self, user: &str, password: &[u8]) -> [u8; 32] {
        let mut context = hmac::Context::with_key(&self.key);
        context.update(&user.len().to_be_bytes());
        context.update(user.as_bytes());
        context.update(password);
        let mut digest = [0; 32];
        digest.copy_from_slice(context.sign().as_ref());
        digest
    }
}
