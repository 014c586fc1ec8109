//! What must not be printed.

use std::fmt;
use zeroize::Zeroizing;

/// A password, a token, a key, the value of a header. `Debug` shows nothing of it, not even its length; memory is wiped when it
/// is dropped.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Secret(Zeroizing<String>);

impl Secret {
    /// Keeps this text.
    pub fn new(text: impl Into<String>) -> Self {
        Self(Zeroizing::new(text.into()))
    }

    /// The text, for whoever needs it.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(…)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn debug_shows_nothing() {
        assert_eq!(format!("{:?}", Secret::new("1234")), format!("{:?}", Secret::new("")));
        assert_eq!(Secret::new("1234").expose(), "1234");
    }
}
