//! Checks data against a JSON schema, and schemas against what Hesper accepts.

use super::{ActionKind, AddressPattern, HostAddress, duration, otlp::ServiceNamePattern};
use crate::role::{InvalidRole, Role};
use jsonschema::{
    Keyword, PatternOptions, ValidationError, ValidationOptions, Validator,
    error::ValidationErrorKind,
    paths::{Location, LocationSegment},
};
use serde_json::{Map, Value};
use std::{fmt, fmt::Write, net::IpAddr};

/// Most levels that a schema may have.
const MAX_SCHEMA_DEPTH: usize = 64;
/// Most bytes of a wrong value that are shown.
const MAX_SHOWN: usize = 120;
/// Largest compiled regular expression, bytes.
const MAX_PATTERN_SIZE: usize = 1 << 20;

/// A format that JSON Schema does not have: name, check, and what a value should have been.
type Format = (&'static str, fn(&str) -> bool, &'static str);

const FORMATS: [Format; 9] = [
    (
        "address-pattern",
        |s| s.parse::<AddressPattern>().is_ok(),
        "a hostname, *.domain, IP address or CIDR range",
    ),
    ("host-address", |s| s.parse::<HostAddress>().is_ok(), "a hostname or IP address"),
    ("ip-address", |s| s.parse::<IpAddr>().is_ok(), "an IP address"),
    ("host-port", is_host_port, "an address and port such as localhost:8080"),
    ("http-url", is_http_url, "an http:// or https:// URL"),
    ("go-duration", |s| duration::parse(s).is_some(), "a duration such as 5s, 1m30s or 250ms"),
    (
        "health-action",
        |s| s.parse::<ActionKind>().is_ok(),
        "an action: mark healthy, mark unhealthy, increase cost N, decrease cost N, send event",
    ),
    ("identity-role", |s| s.parse::<Role>().is_ok(), "a role: #attribute, @identity or #all"),
    (
        "service-name-pattern",
        |s| s.parse::<ServiceNamePattern>().is_ok(),
        "a pattern such as shop.*: 1 to 128 bytes without control characters",
    ),
];

fn is_host_port(s: &str) -> bool {
    s.rsplit_once(':')
        .is_some_and(|(host, port)| host.parse::<HostAddress>().is_ok() && port.parse::<u16>().is_ok())
}

fn is_http_url(s: &str) -> bool {
    let rest = s.strip_prefix("http://").or_else(|| s.strip_prefix("https://"));
    rest.is_some_and(|rest| !rest.is_empty() && !rest.starts_with('/') && !rest.contains(char::is_whitespace))
}

/// One fault of a config's data, or of a schema.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub struct ConfigFault {
    /// Where: `portRanges[0].low`; empty = the whole value.
    pub path: String,
    /// What is wrong there: `"1024" is not of type "integer"`.
    pub reason: String,
}

impl fmt::Display for ConfigFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.path.is_empty() {
            f.write_str(&self.reason)
        } else {
            write!(f, "{}: {}", self.path, self.reason)
        }
    }
}

/// Checks data against a schema.
///
/// # Errors
/// Every fault, in the order of the paths. A schema that cannot be used is one fault too: unreadable means refused.
pub fn validate(schema: &Value, data: &Value) -> Result<(), Vec<ConfigFault>> {
    let validator = compile(schema)?;
    let mut faults: Vec<_> = validator.iter_errors(data).map(|e| fault(&e)).collect();
    faults.sort_by(|a, b| a.path.cmp(&b.path));
    faults.dedup();
    if faults.is_empty() { Ok(()) } else { Err(faults) }
}

/// Checks that a schema can be used: a JSON object, valid for its draft, with no reference out of itself.
///
/// # Errors
/// What is wrong with it.
pub fn check_schema(schema: &Value) -> Result<(), Vec<ConfigFault>> {
    compile(schema).map(drop)
}

fn compile(schema: &Value) -> Result<Validator, Vec<ConfigFault>> {
    let one = |path: String, reason: String| vec![ConfigFault { path, reason }];
    if !schema.is_object() {
        return Err(one(String::new(), "a schema is a JSON object".into()));
    }
    refuse_outside_references(schema, &mut Vec::new()).map_err(|f| vec![f])?;
    options()
        .build(schema)
        .map_err(|e| one(String::new(), format!("the schema cannot be used: {}", shorten(&e.to_string()))))
}

fn options() -> ValidationOptions<'static> {
    let pattern = PatternOptions::regex().size_limit(MAX_PATTERN_SIZE);
    let options = jsonschema::options()
        .offline()
        .should_validate_formats(true)
        .with_pattern_options(pattern)
        .with_keyword("lowNotAboveHigh", |_, _, _| Ok(Box::new(LowNotAboveHigh)))
        .with_keyword("allStandsAlone", |_, _, _| Ok(Box::new(AllStandsAlone)));
    FORMATS.into_iter().fold(options, |options, (name, check, _)| options.with_format(name, check))
}

/// Only `#…` may be referred to: nothing is ever fetched or read because a schema says so.
fn refuse_outside_references(value: &Value, path: &mut Vec<String>) -> Result<(), ConfigFault> {
    let fault = |path: &[String], reason: String| Err(ConfigFault { path: path.join("."), reason });
    if path.len() > MAX_SCHEMA_DEPTH {
        return fault(path, format!("the schema has more than {MAX_SCHEMA_DEPTH} levels"));
    }
    let mut descend = |key: String, child: &Value| {
        path.push(key);
        let result = refuse_outside_references(child, path);
        path.pop();
        result
    };
    match value {
        Value::Object(map) => {
            for (key, child) in map {
                if let (true, Some(target)) = (key.ends_with("ref") || key.ends_with("Ref"), child.as_str())
                    && key.starts_with('$')
                    && !target.starts_with('#')
                {
                    let reason =
                        format!("a schema may refer only to itself (#…), not to '{}'", shorten(target));
                    path.push(key.clone());
                    return fault(path, reason);
                }
                descend(key.clone(), child)?;
            }
            Ok(())
        }
        Value::Array(items) => {
            items.iter().enumerate().try_for_each(|(i, item)| descend(i.to_string(), item))
        }
        _ => Ok(()),
    }
}

fn fault(error: &ValidationError<'_>) -> ConfigFault {
    let reason = match error.kind() {
        ValidationErrorKind::Format { format } => match FORMATS.iter().find(|(name, ..)| name == format) {
            Some((_, _, wanted)) => format!("{} is not {wanted}", shorten(&error.instance().to_string())),
            None => error.to_string(),
        },
        ValidationErrorKind::Enum { options } => {
            format!("{} is not one of {}", shorten(&error.instance().to_string()), choice_of(options))
        }
        ValidationErrorKind::Required { property } => format!("{property} is required"),
        ValidationErrorKind::AdditionalProperties { unexpected } => {
            format!("{} not known here", list_of(unexpected))
        }
        _ => error.to_string(),
    };
    ConfigFault { path: json_path(error.instance_path()), reason: shorten(&reason) }
}

fn list_of(names: &[String]) -> String {
    let quoted: Vec<_> = names.iter().map(|n| format!("{n:?}")).collect();
    format!("{} {}", quoted.join(", "), if names.len() == 1 { "is" } else { "are" })
}

/// All of them: whoever chose wrong wants to see what there is.
fn choice_of(options: &Value) -> String {
    let shown: Vec<_> = options.as_array().into_iter().flatten().map(ToString::to_string).collect();
    match shown.split_last() {
        Some((last, before)) if !before.is_empty() => format!("{} or {last}", before.join(", ")),
        _ => shown.concat(),
    }
}

/// `/portRanges/0/low` as `portRanges[0].low`.
fn json_path(location: &Location) -> String {
    let mut path = String::new();
    for segment in location.segments() {
        match segment {
            LocationSegment::Property(name) => {
                if !path.is_empty() {
                    path.push('.');
                }
                path.push_str(&name);
            }
            LocationSegment::Index(i) => {
                let _ = write!(path, "[{i}]");
            }
        }
    }
    path
}

fn shorten(text: &str) -> String {
    match text.char_indices().nth(MAX_SHOWN) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.to_owned(),
    }
}

/// Keyword `lowNotAboveHigh` of port ranges, which JSON Schema cannot say.
struct LowNotAboveHigh;

impl LowNotAboveHigh {
    fn ends(range: &Value) -> Option<(f64, f64)> {
        let range: &Map<_, _> = range.as_object()?;
        Some((range.get("low")?.as_f64()?, range.get("high")?.as_f64()?))
    }
}

impl<'i> Keyword<'i> for LowNotAboveHigh {
    fn validate(&self, instance: &'i Value) -> Result<(), ValidationError<'i>> {
        match Self::ends(instance) {
            Some((low, high)) if low > high => {
                Err(ValidationError::custom(format!("low {low} is above high {high}")))
            }
            _ => Ok(()),
        }
    }

    fn is_valid(&self, instance: &'i Value) -> bool {
        Self::ends(instance).is_none_or(|(low, high)| low <= high)
    }
}

/// Keyword `allStandsAlone` of lists of roles.
struct AllStandsAlone;

impl<'i> Keyword<'i> for AllStandsAlone {
    fn validate(&self, instance: &'i Value) -> Result<(), ValidationError<'i>> {
        if self.is_valid(instance) {
            return Ok(());
        }
        Err(ValidationError::custom(InvalidRole::AllNotAlone.to_string()))
    }

    fn is_valid(&self, instance: &'i Value) -> bool {
        !instance.as_array().is_some_and(|roles| roles.len() > 1 && roles.iter().any(|r| r == "#all"))
    }
}
