//! "Did you mean": the known word that is nearest to a mistyped one.

/// How many letters may differ.
const NEAR: usize = 2;

/// The known word that was probably meant: the same but for case and hyphens, or a few letters away.
pub fn nearest<'a>(typed: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let plain = |s: &str| s.chars().filter(char::is_ascii_alphanumeric).collect::<String>().to_lowercase();
    let typed = plain(typed);
    let ranked = known.into_iter().map(|word| (distance(&typed, &plain(word)), word));
    ranked.filter(|(d, word)| *d <= NEAR && *d < word.len()).min_by_key(|(d, _)| *d).map(|(_, word)| word)
}

/// `did you mean 'x'?`, or the whole list.
pub fn advice(typed: &str, what: &str, known: &[&str]) -> String {
    match nearest(typed, known.iter().copied()) {
        Some(word) => format!("did you mean '{word}'?"),
        None => format!("the {what} are {}", known.join(", ")),
    }
}

/// Levenshtein's distance.
fn distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, ca) in a.chars().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, cb) in b.iter().enumerate() {
            let replaced = diagonal + usize::from(ca != *cb);
            diagonal = row[j + 1];
            row[j + 1] = replaced.min(row[j] + 1).min(diagonal + 1);
        }
    }
    row[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn near_words_are_found_and_far_ones_are_not() {
        let known = ["service-policies", "services", "roleAttributes", "name"];
        for (typed, meant) in [
            ("servicePolicies", Some("service-policies")),
            ("roleattribute", Some("roleAttributes")),
            ("nmae", Some("name")),
            ("service", Some("services")),
            ("colour", None),
            ("", None),
        ] {
            assert_eq!(nearest(typed, known), meant, "{typed}");
        }
    }
}
