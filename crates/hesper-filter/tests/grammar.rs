//! The whole grammar, its errors and its limits.

use hesper_filter::{DEFAULT_LIMIT, Direction, Limit, MAX_DEPTH, MAX_LIMIT, MAX_QUERY_LEN, Query};
use proptest::prelude::*;
use serde_json::{Value, json};

fn item() -> Value {
    json!({
        "id": "BeyyFUZFDR", "name": "kubeA.reflect.id", "isAdmin": false, "isOnline": true, "cost": 42, "ratio": 0.5,
        "roleAttributes": ["kubeA.services", "eu"], "none": null, "empty": [], "createdAt": "2026-02-03T10:00:00.5Z",
        "type": {"id": "Default", "name": "Default"}, "tags": {"my-site": "Ünna", "a.b": 1},
        "limit": 3, "sort": "up", "count": 5,
        "services": [{"name": "s1", "port": 80}, {"name": "s2", "port": 90}]
    })
}

#[test]
fn truth_table() {
    for (query, expected) in [
        ("", true),
        ("true", true),
        ("FALSE", false),
        ("not true", false),
        (r#"name="kubeA.reflect.id""#, true),
        (r#"name = "x""#, false),
        (r#"name != "x""#, true),
        (r#"absent != "x""#, true),
        (r#"absent = null"#, true),
        ("none = null", true),
        ("name = null", false),
        ("name != null", true),
        (r#"name contains "reflect""#, true),
        (r#"name CONTAINS "Reflect""#, false),
        (r#"name icontains "REFLECT""#, true),
        (r#"name not contains "x""#, true),
        (r#"name not icontains "KUBEA""#, false),
        (r#"absent contains "x""#, false),
        (r#"tags.my-site icontains "ünn""#, true),
        ("cost contains 4", true),
        ("cost = 42", true),
        ("cost = 42.0", true),
        (r#"cost = "42""#, false),
        ("cost < 42", false),
        ("cost <= 42", true),
        ("cost>41", true),
        ("cost >= 43", false),
        ("ratio = 0.5", true),
        ("cost > -1", true),
        ("cost between 42 and 43", true),
        ("cost between 41 and 42", false),
        ("cost not between 41 and 42", true),
        ("cost in [1, 42]", true),
        ("cost not in [1, 2]", true),
        (r#"name in ["x", "kubeA.reflect.id"]"#, true),
        (r#"name not in ["kubeA.reflect.id"]"#, false),
        ("createdAt > datetime(2026-02-03T09:59:00Z)", true),
        ("createdAt < datetime(2026-02-03T11:00:00+02:00)", false),
        ("createdAt between datetime(2026-01-01T00:00:00Z) and datetime(2027-01-01T00:00:00Z)", true),
        (r#"anyOf(roleAttributes)="eu""#, true),
        (r#"anyOf(roleAttributes) = "us""#, false),
        (r#"allOf(roleAttributes) contains "e""#, true),
        (r#"allOf(roleAttributes) = "eu""#, false),
        (r#"anyOf(empty) = "eu""#, false),
        (r#"allOf(empty) = "eu""#, true),
        (r#"anyOf(services.name) = "s2""#, true),
        ("count(services) = 2", true),
        ("count(absent) = 0", true),
        ("count(from services where port > 80) = 1", true),
        (r#"count(from services where name = "s1" and port > 80) = 0"#, true),
        ("isEmpty(empty)", true),
        ("isempty(none)", true),
        ("isEmpty(absent)", true),
        ("isEmpty(roleAttributes)", false),
        ("not isEmpty(roleAttributes)", true),
        ("isOnline", true),
        ("isAdmin", false),
        ("not isAdmin and isOnline", true),
        ("isAdmin = false", true),
        (r#"type.name = "Default""#, true),
        ("tags.a.b = 1", true),
        (r#"services.name = "s2""#, true),
        ("false and false or true", true),
        ("true or true and false", true),
        ("(true or true) and false", false),
        ("not (true and false)", true),
        ("not true or true", true),
        ("limit = 3", true),
        (r#"sort = "up""#, true),
        ("count = 5", true),
        (r#"name = "a\"b\\""#, false),
    ] {
        let parsed = Query::parse(query).unwrap_or_else(|e| panic!("{query}: {e}"));
        assert_eq!(parsed.matches(&item()), expected, "{query}: {parsed:?}");
    }
}

#[test]
fn errors_name_the_position_and_what_was_expected() {
    for (query, expected) in [
        (
            "name =",
            "at position 7: expected a value: \"text\", number, datetime(…), true, false or null, found the end",
        ),
        (
            "name = x",
            "at position 8: expected a value: \"text\", number, datetime(…), true, false or null, found 'x'",
        ),
        ("name = \"é", "at position 10: expected a closing \", found the end"),
        (r#"name = "\q""#, r#"at position 10: expected an escape: \" \\ \/ \n \t \r, found '\q'"#),
        ("name ? 1", "at position 6: expected a name, a value or a sign, found '?'"),
        ("(true", "at position 6: expected ')', found the end"),
        ("true true", "at position 6: expected and, or, sort by, skip, limit or the end, found 'true'"),
        ("name not 1", "at position 10: expected in, between, contains or icontains, found the number 1"),
        ("cost between 1", "at position 15: expected 'and', found the end"),
        (
            "cost in []",
            "at position 10: expected a value: \"text\", number, datetime(…), true, false or null, found ']'",
        ),
        ("and", "at position 1: expected a field such as name or tags.site, found 'and'"),
        ("a..b = 1", "at position 1: expected a field such as name or tags.site, found 'a..b'"),
        ("sort by", "at position 8: expected a field such as name or tags.site, found the end"),
        ("true limit -1", "at position 12: expected a whole number, found the number -1"),
        ("true skip 1.5", "at position 11: expected a whole number, found the number 1.5"),
        (
            "createdAt = datetime(now)",
            "at position 22: expected a time such as 2026-01-31T12:00:00Z, found 'now'",
        ),
        (
            "anyOf(a)",
            "at position 9: expected = != < <= > >= in, between, contains or icontains, found the end",
        ),
        ("limit 1 skip 1", "at position 9: expected and, or, sort by, skip, limit or the end, found 'skip'"),
    ] {
        assert_eq!(Query::parse(query).expect_err(query).to_string(), expected, "{query}");
    }
}

#[test]
fn paging_clauses_are_read_with_and_without_a_predicate() {
    let query = Query::parse("isOnline SORT BY name DESC, cost asc, id SKIP 5 LIMIT 7").expect("valid");
    assert_eq!(
        query.sort,
        [("name".into(), Direction::Desc), ("cost".into(), Direction::Asc), ("id".into(), Direction::Asc)]
    );
    assert_eq!((query.skip, query.limit), (Some(5), Some(Limit::Count(7))));
    assert_eq!(Query::parse("limit none").expect("valid").limit, Some(Limit::None));
    assert_eq!(Query::parse("skip 1 limit 2").expect("valid").skip, Some(1));
    assert_eq!(Query::parse("sort by name limit 1").expect("valid").limit, Some(Limit::Count(1)));
    assert_eq!(Query::parse("true limit 100000").expect("valid").page_size(), Some(MAX_LIMIT));
    assert_eq!(Query::parse("true").expect("valid").page_size(), Some(DEFAULT_LIMIT));
}

#[test]
fn pages_are_sorted_cut_and_counted() {
    let items: Vec<_> = (0..600).map(|n| json!({"n": n, "even": n % 2 == 0, "same": "x"})).collect();
    let numbers = |q: &str| -> (Vec<u64>, u64) {
        let page = Query::parse(q).expect(q).apply(items.clone());
        (page.items.iter().filter_map(|i| i["n"].as_u64()).collect(), page.total)
    };
    assert_eq!(numbers("even sort by n desc skip 1 limit 3"), (vec![596, 594, 592], 300));
    assert_eq!(numbers("").0.len(), 10);
    assert_eq!(numbers("limit 100000").0.len(), 500);
    assert_eq!(numbers("limit none").0.len(), 600);
    assert_eq!(numbers("sort by even, n limit 2").0, [1, 3]);
    assert_eq!(numbers("sort by same limit 3").0, [0, 1, 2], "stable");
    assert_eq!(numbers("skip 99999999 limit none"), (vec![], 600));
    assert_eq!(numbers("limit 0"), (vec![], 600));
}

#[test]
fn size_and_depth_are_bounded() {
    let long = format!("name = \"{}\"", "x".repeat(MAX_QUERY_LEN));
    assert!(Query::parse(&long).expect_err("long").to_string().contains("at most 8192 bytes"));
    let nested = |n: usize| format!("{}true{}", "(".repeat(n), ")".repeat(n));
    assert!(Query::parse(&nested(MAX_DEPTH)).is_ok());
    assert!(Query::parse(&nested(MAX_DEPTH + 1)).expect_err("deep").to_string().contains("64 levels"));
    assert!(Query::parse(&"not ".repeat(MAX_DEPTH + 1)).is_err());
    assert!(Query::parse(&"(not count(from a where ".repeat(300)).is_err());
}

proptest! {
    #[test]
    fn any_text_is_read_or_refused(text in ".{0,200}") {
        if let Ok(query) = Query::parse(&text) {
            query.matches(&item());
        }
    }

    #[test]
    fn any_words_are_read_or_refused(words in prop::collection::vec(prop::sample::select(vec![
        "name", "=", "!=", "<", "(", ")", "[", "]", ",", "and", "or", "not", "in", "between", "contains", "\"x\"", "1", "1e999",
        "true", "null", "sort", "by", "skip", "limit", "none", "anyOf", "count", "from", "where", "isEmpty", "datetime",
        "2026-01-01T00:00:00Z", "services.port", "\"", "é", ".", "-", "services",
    ]), 0..24)) {
        let text = words.join(" ");
        match Query::parse(&text) {
            Ok(query) => { query.apply(vec![item(), json!(1), json!([item()])]); }
            Err(error) => prop_assert!(error.position <= text.chars().count() + 1),
        }
    }

    #[test]
    fn not_is_the_opposite(query in prop::sample::select(vec!["cost > 41", "isEmpty(empty)", "anyOf(roleAttributes)=\"eu\"", "cost in [1]"])) {
        let plain = Query::parse(query).expect("valid").matches(&item());
        let negated = Query::parse(&format!("not ({query})")).expect("valid").matches(&item());
        prop_assert_ne!(plain, negated);
    }
}
