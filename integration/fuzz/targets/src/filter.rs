//! The filter grammar of the management API.

use hesper_filter::{MAX_QUERY_LEN, Query};
use serde_json::{Value, json};
use std::sync::LazyLock;

static ITEMS: LazyLock<Vec<Value>> = LazyLock::new(|| {
    vec![
        json!({"name": "one", "n": 1, "on": true, "tags": {"a": "x"}, "roles": ["r", "s"], "at": "2026-01-02T03:04:05Z"}),
        json!({"name": "two", "n": -2.5, "on": false, "tags": {}, "roles": [], "at": null, "list": [{"a": 1}, {"a": 2}]}),
        json!({"name": ["nested", {"name": 3}], "n": "1", "tags": 7}),
        json!([]),
        Value::Null,
    ]
});

/// A query.
///
/// # Panics
/// When it selects otherwise at a second look, or more than there is.
pub fn run(text: &[u8]) {
    let Ok(text) = std::str::from_utf8(text) else { return };
    match Query::parse(text) {
        Err(error) => assert!(!error.to_string().is_empty()),
        Ok(query) => {
            assert!(text.len() <= MAX_QUERY_LEN, "longer than allowed");
            // Numbers may be NaN nowhere, so that a query equals itself.
            assert_eq!(Query::parse(text).as_ref(), Ok(&query));
            let page = query.apply(ITEMS.clone());
            let matching = ITEMS.iter().filter(|item| query.matches(item)).count();
            assert_eq!(page.total, matching as u64);
            assert!(page.items.len() <= matching);
        }
    }
}
