//! Cookies of one host, as far as a client without pages needs them: balancers keep a sender at one server by them (RFC 6265).
//!
//! Each exporter has a jar for each destination, so that a cookie never goes to another host than the one that set it.

use http::{HeaderMap, HeaderValue, header};
use std::{collections::BTreeMap, time::SystemTime};

/// Most cookies of a host, and their longest name and value: what browsers keep at least (RFC 6265, 6.1).
const MOST: usize = 50;
const LONGEST: usize = 4096;

/// What a host has set.
#[derive(Debug, Default)]
pub(crate) struct Jar(BTreeMap<String, (String, Option<SystemTime>)>);

impl Jar {
    /// Keeps what an answer sets, and drops what it takes back.
    pub(crate) fn learn(&mut self, headers: &HeaderMap, now: SystemTime) {
        for value in headers.get_all(header::SET_COOKIE) {
            let Some(text) = value.to_str().ok().filter(|text| text.len() <= LONGEST) else { continue };
            let mut parts = text.split(';');
            let Some((name, value)) = parts.next().and_then(|pair| pair.split_once('=')) else { continue };
            let (name, value) = (name.trim(), value.trim());
            match until(parts, now) {
                Some(end) if end <= now => drop(self.0.remove(name)),
                end if self.0.len() < MOST || self.0.contains_key(name) => {
                    self.0.insert(name.to_owned(), (value.to_owned(), end));
                }
                _ => {}
            }
        }
    }

    /// The header to send, if there is anything to say.
    pub(crate) fn header(&self, now: SystemTime) -> Option<HeaderValue> {
        let alive = self.0.iter().filter(|(_, (_, end))| end.is_none_or(|end| end > now));
        let pairs: Vec<String> = alive.map(|(name, (value, _))| format!("{name}={value}")).collect();
        let mut value = HeaderValue::from_str(&pairs.join("; ")).ok().filter(|value| !value.is_empty())?;
        value.set_sensitive(true);
        Some(value)
    }
}

/// When a cookie ends; `Max-Age` counts before `Expires`.
fn until<'a>(attributes: impl Iterator<Item = &'a str>, now: SystemTime) -> Option<SystemTime> {
    let (mut age, mut expires) = (None, None);
    for (name, value) in attributes.filter_map(|attribute| attribute.split_once('=')) {
        let value = value.trim();
        if name.trim().eq_ignore_ascii_case("max-age") {
            age = value.parse::<i64>().ok();
        } else if name.trim().eq_ignore_ascii_case("expires") {
            // A date is read as a wait, for which there is a function.
            expires = hesper_otlp::retry::read_retry_after(value, now);
        }
    }
    match (age, expires) {
        (Some(age), _) => now.checked_add(std::time::Duration::from_secs(u64::try_from(age).unwrap_or(0))),
        (None, Some(wait)) => now.checked_add(wait),
        (None, None) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn cookies_are_kept_changed_and_taken_back() {
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(784_111_777);
        let mut jar = Jar::default();
        let learn = |jar: &mut Jar, cookies: &[&str]| {
            let pairs = cookies.iter().map(|c| (header::SET_COOKIE, c.parse().expect("a header")));
            jar.learn(&pairs.collect(), now);
            jar.header(now).map(|value| value.to_str().expect("text").to_owned())
        };
        assert_eq!(learn(&mut jar, &[]), None);
        let kept = learn(&mut jar, &["b=2; Path=/; HttpOnly", "a=1; Max-Age=10", "no cookie"]);
        assert_eq!(kept.as_deref(), Some("a=1; b=2"));
        assert_eq!(
            learn(&mut jar, &["b=3; Expires=Sun, 06 Nov 1994 09:49:37 GMT"]).as_deref(),
            Some("a=1; b=3")
        );
        let later = jar.header(now + Duration::from_secs(11)).expect("one is left");
        assert_eq!(later, "b=3");
        assert_eq!(learn(&mut jar, &["a=; Max-Age=0", "b=; Expires=Sun, 06 Nov 1994 08:00:00 GMT"]), None);
        let many: Vec<String> = (0..100).map(|i| format!("c{i}=1")).collect();
        learn(&mut jar, &many.iter().map(String::as_str).collect::<Vec<_>>());
        assert_eq!(jar.0.len(), MOST);
    }
}
