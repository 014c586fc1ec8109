//! `--role-filters` of `list`, put into the filter language.

use crate::{
    cli::flags::{Semantic, UsageError},
    edge::requests::quoted,
};
use anyhow::Result;
use hesper_model::role::{Role, Roles};

/// The filter that selects what both the user's filter and the roles select.
///
/// # Errors
/// A role without `#` or `@`, or `#all` beside others.
pub(crate) fn combine(
    filter: Option<&str>,
    roles: Option<&[String]>,
    semantic: Semantic,
) -> Result<Option<String>> {
    let Some(roles) = roles else { return Ok(filter.map(str::to_owned)) };
    let roles = Roles::parse(roles).map_err(|e| UsageError(e.to_string()))?;
    let joint = match semantic {
        Semantic::AnyOf => " or ",
        Semantic::AllOf => " and ",
    };
    let clauses: Vec<String> = roles
        .iter()
        .map(|role| match role {
            Role::All => "true".to_owned(),
            Role::Attribute(attribute) => format!("anyOf(roleAttributes) = {}", quoted(attribute)),
            Role::Entity(id) => format!("id = {}", quoted(id)),
        })
        .collect();
    if clauses.is_empty() {
        return Ok(filter.map(str::to_owned));
    }
    let roles = clauses.join(joint);
    let (condition, rest) = split(filter.unwrap_or_default());
    let condition = if condition.is_empty() { String::new() } else { format!(" and ({condition})") };
    Ok(Some(format!("({roles}){condition} {rest}").trim_end().to_owned()))
}

/// Cuts a query before its `sort`, `skip` or `limit`, whichever comes first outside of a string.
fn split(query: &str) -> (&str, &str) {
    let (mut in_string, mut escaped, mut word_start) = (false, false, true);
    for (at, c) in query.char_indices() {
        if in_string {
            in_string = escaped || c != '"';
            escaped = !escaped && c == '\\';
            continue;
        }
        if word_start && starts_ordering(&query[at..]) {
            return (query[..at].trim(), &query[at..]);
        }
        in_string = c == '"';
        word_start = c.is_whitespace() || c == ')';
    }
    (query.trim(), "")
}

fn starts_ordering(text: &str) -> bool {
    let word: String = text.chars().take_while(|c| c.is_ascii_alphanumeric()).collect();
    ["sort", "skip", "limit"].iter().any(|k| word.eq_ignore_ascii_case(k))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn combined(filter: &str, roles: &[&str], semantic: Semantic) -> String {
        let roles: Vec<String> = roles.iter().map(|r| (*r).to_owned()).collect();
        combine(Some(filter), Some(&roles), semantic).expect("roles").expect("a filter")
    }

    #[test]
    fn roles_and_the_users_filter_both_hold() {
        assert_eq!(
            combined(r#"name="a limit" or true sort by name limit none"#, &["#x", "#y"], Semantic::AllOf),
            r#"(anyOf(roleAttributes) = "x" and anyOf(roleAttributes) = "y") and (name="a limit" or true) sort by name limit none"#
        );
        assert_eq!(
            combined("limit 3", &["@i1", "#x"], Semantic::AnyOf),
            r#"(anyOf(roleAttributes) = "x" or id = "i1") limit 3"#
        );
        assert_eq!(combined("", &["#all"], Semantic::AnyOf), "(true)");
        assert_eq!(combine(Some("true"), None, Semantic::AnyOf).expect("no roles"), Some("true".into()));
    }

    #[test]
    fn a_role_needs_its_prefix() {
        assert!(combine(None, Some(&["x".to_owned()]), Semantic::AnyOf).is_err());
    }
}
