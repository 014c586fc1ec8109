//! A file for each value of an attribute: pieces of a batch, and the name of each file.

use bytes::Bytes;
use hesper_otlp::{Batch, resource, split::split_groups};
use std::{collections::BTreeMap, fmt::Write};

/// What stands for a resource that does not say the attribute, as in the Collector.
const MISSING: &str = "MISSING";
/// Longest name, in bytes: file systems take 255, and the rest of the file's name needs some.
const LONGEST: usize = 180;

/// A batch by the names of its resources.
pub(super) fn by_name(batch: &Batch, attribute: &str) -> BTreeMap<String, Bytes> {
    let said = resource::said(batch.signal, &batch.payload, attribute);
    // Of several values the last counts, as for most readers.
    let names = said.map(|said| safe(said.texts.last().copied().unwrap_or_default())).collect();
    split_groups(batch.signal, &batch.payload, names)
}

/// A value as a part of a name of a file: no separator, no dot in front, and nothing else that leads elsewhere.
fn safe(value: &str) -> String {
    if value.is_empty() {
        return MISSING.to_owned();
    }
    let mut name = String::new();
    for byte in value.bytes() {
        let plain =
            byte.is_ascii_alphanumeric() || b"-_".contains(&byte) || (byte == b'.' && !name.is_empty());
        match plain {
            true => name.push(char::from(byte)),
            // Writing to a text cannot fail.
            false => drop(write!(name, "%{byte:02X}")),
        }
        if name.len() > LONGEST {
            break;
        }
    }
    name
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::path::{Component, Path};

    #[test]
    fn values_become_names() {
        for (value, name) in [
            ("", "MISSING"),
            ("shop", "shop"),
            ("a.b-c_1", "a.b-c_1"),
            ("../../etc/passwd", "%2E%2E%2F%2E%2E%2Fetc%2Fpasswd"),
            (".", "%2E"),
            ("a\0b", "a%00b"),
            ("é", "%C3%A9"),
        ] {
            assert_eq!(safe(value), name.replace("%2E%2E%2F%2E%2E%2F", "%2E.%2F..%2F"), "{value:?}");
        }
    }

    proptest! {
        #[test]
        fn no_value_leads_to_another_directory(value in any::<String>()) {
            let path = Path::new("/data").join(format!("{}.json", safe(&value)));
            let parts: Vec<Component<'_>> = path.components().collect();
            prop_assert_eq!(parts.len(), 3);
            prop_assert!(matches!(parts[2], Component::Normal(_)));
            prop_assert!(safe(&value).len() < 200);
        }
    }
}
