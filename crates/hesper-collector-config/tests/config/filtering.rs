//! `filter`: what is dropped.

use crate::{faults, processor};
use hesper_collector_config::{
    Pattern, Value,
    processors::{
        AttributeMatch, Comparison, Condition, ErrorMode, Field, Filter, LogMatch, Match, MetricMatch,
        Operand, Processor, SeverityMatch, Sides, TextMatch, ValueMatch,
    },
};

fn filter(body: &str) -> Filter {
    match processor("filter", body) {
        Processor::Filter(filter) => *filter,
        other => panic!("{other:?}"),
    }
}

fn is(text: &str) -> Vec<TextMatch> {
    vec![TextMatch::Is(text.into())]
}

fn text(text: &str) -> Operand {
    Operand::Value(Value::Text(text.into()))
}

fn attribute(key: &str) -> Field {
    Field::Attribute(key.into())
}

fn equal(field: Field, value: Operand) -> Condition {
    Condition::Compare(Operand::Field(field), Comparison::Equal, value)
}

/// The only condition about spans.
fn span(condition: &str) -> Condition {
    let mut spans = filter(&format!("{{traces: {{span: ['{condition}']}}}}")).conditions.spans;
    assert_eq!(spans.len(), 1);
    spans.remove(0)
}

#[test]
fn include_and_exclude() {
    let body = "{error_mode: ignore, spans: {include: {match_type: strict, services: [s]}}, metrics: {include: {match_type: \
                strict, metric_names: [m], resource_attributes: [{key: a, value: b}]}, exclude: {match_type: regexp, \
                metric_names: ['^go_']}}, logs: {exclude: {match_type: strict, resource_attributes: [{key: a}], \
                record_attributes: [{key: b, value: 1}], bodies: [x], severity_texts: [INFO], severity_number: {min: \
                ERROR}}}}";
    let found = filter(body);
    assert_eq!(found.error_mode, ErrorMode::Ignore);
    let services = Match { services: is("s"), ..Match::default() };
    assert_eq!(found.spans, Sides { include: Some(services), exclude: None });
    let with = |key: &str, value| AttributeMatch { key: key.into(), value };
    let include = MetricMatch {
        metric_names: is("m"),
        resource_attributes: vec![with("a", Some(ValueMatch::Is(Value::Text("b".into()))))],
    };
    let names = vec![TextMatch::Matches(Pattern::new("^go_").expect("an expression"))];
    let exclude = MetricMatch { metric_names: names, resource_attributes: Vec::new() };
    assert_eq!(found.metrics, Sides { include: Some(include), exclude: Some(exclude) });
    let exclude = LogMatch {
        resource_attributes: vec![with("a", None)],
        record_attributes: vec![with("b", Some(ValueMatch::Is(Value::Int(1))))],
        bodies: is("x"),
        severity_texts: is("INFO"),
        severity_number: Some(SeverityMatch { min: 17, match_undefined: false }),
    };
    assert_eq!(found.logs, Sides { include: None, exclude: Some(exclude) });
}

#[test]
fn conditions_are_read_with_their_order() {
    let compare = |field, comparison, value| Condition::Compare(Operand::Field(field), comparison, value);
    let int = |n| Operand::Value(Value::Int(n));
    for (condition, expected) in [
        (r#"attributes["a"] == "x""#, equal(attribute("a"), text("x"))),
        (r#"span.attributes["a"] == "x""#, equal(attribute("a"), text("x"))),
        (
            r#"resource.attributes["host.name"] != nil"#,
            compare(Field::ResourceAttribute("host.name".into()), Comparison::NotEqual, Operand::Nil),
        ),
        ("kind == SPAN_KIND_SERVER", equal(Field::Kind, int(2))),
        ("status.code == STATUS_CODE_ERROR", equal(Field::StatusCode, int(2))),
        ("true", Condition::Always(true)),
        (r#"not name == "a""#, Condition::Not(Box::new(equal(Field::Name, text("a"))))),
        (
            r#"name == "a" or name == "b" and name == "c""#,
            Condition::Any(vec![
                equal(Field::Name, text("a")),
                Condition::All(vec![equal(Field::Name, text("b")), equal(Field::Name, text("c"))]),
            ]),
        ),
        (
            r#"(name == "a" or name == "b") and name == "c""#,
            Condition::All(vec![
                Condition::Any(vec![equal(Field::Name, text("a")), equal(Field::Name, text("b"))]),
                equal(Field::Name, text("c")),
            ]),
        ),
        (
            r#"IsMatch(attributes["a"], "^\\d+\.x")"#,
            Condition::IsMatch(attribute("a"), Pattern::new(r"^\d+\.x").expect("an expression")),
        ),
        (
            r#"attributes["n"] >= -1.5"#,
            compare(attribute("n"), Comparison::GreaterOrEqual, Operand::Value(Value::Double(-1.5))),
        ),
        (r#"instrumentation_scope.name == "s""#, equal(Field::ScopeName, text("s"))),
    ] {
        assert_eq!(span(condition), expected, "{condition}");
    }
}

#[test]
fn each_context_has_its_fields() {
    let body = r#"{traces: {spanevent: ['name == "e"'], resource: ['attributes["a"] == "b"']}, metrics: {metric: ['type ==
                METRIC_DATA_TYPE_SUM', 'metric.unit == "s"'], datapoint: ['metric.name == "m"'], resource:
                ['attributes["a"] == "b"']}, logs: {log_record: ['severity_number < SEVERITY_NUMBER_WARN',
                'IsMatch(log.body, "x")'], resource: ['resource.attributes["a"] == "b"']}}"#;
    let found = filter(body).conditions;
    let resource = [equal(Field::ResourceAttribute("a".into()), text("b"))];
    let int = |n| Operand::Value(Value::Int(n));
    assert_eq!(found.span_events, [equal(Field::Name, text("e"))]);
    assert_eq!(found.metrics, [equal(Field::MetricType, int(2)), equal(Field::MetricUnit, text("s"))]);
    assert_eq!(found.data_points, [equal(Field::MetricName, text("m"))]);
    let less = Condition::Compare(Operand::Field(Field::SeverityNumber), Comparison::Less, int(13));
    let body = Condition::IsMatch(Field::Body, Pattern::new("x").expect("an expression"));
    assert_eq!(found.log_records, [less, body]);
    for resources in [found.trace_resources, found.metric_resources, found.log_resources] {
        assert_eq!(resources, resource);
    }
}

#[test]
fn what_is_not_understood_is_a_fault() {
    for (body, reason) in [
        ("", "drops nothing"),
        ("{error_mode: ignore}", "drops nothing"),
        ("{metrics: {include: {match_type: expr, expressions: [x]}}}", "not supported here"),
        ("{logs: {exclude: {match_type: strict}}}", "matches nothing in particular"),
        ("{logs: {exclude: {match_type: strict, bodies: []}}}", "matches nothing in particular"),
        ("{traces: {span: ['name']}}", "a comparison is expected, not the end"),
        ("{traces: {span: ['']}}", "a field or a value is expected, not the end"),
        ("{traces: {span: ['name == \"a']}}", "a quote is never closed"),
        ("{traces: {span: ['(name == \"a\"']}}", "')' is expected, not the end"),
        ("{traces: {span: ['name == \"a\" name']}}", "'name' is not expected"),
        ("{traces: {span: ['colour == 1']}}", "the field colour is not known here"),
        ("{traces: {span: ['body == 1']}}", "the field body is not known here"),
        ("{traces: {span: ['Len(name) == 1']}}", "the field Len is not known here"),
        ("{traces: {span: ['name == 1 + 1']}}", "'+' is not understood"),
        ("{traces: {span: ['IsMatch(name, \"(\")']}}", "no regular expression"),
        ("{traces: {span: ['attributes[\"a\"][\"b\"] == 1']}}", "a comparison is expected, not '['"),
        ("{traces: {spam: [true]}}", "did you mean 'span'?"),
    ] {
        let faults = faults(&format!("processors: {{filter: {body}}}"));
        assert!(faults.iter().any(|fault| fault.contains(reason)), "{body}: {faults:#?}");
    }
    let deep = format!("{}true{}", "(".repeat(100), ")".repeat(100));
    assert!(
        faults(&format!("processors: {{filter: {{traces: {{span: ['{deep}']}}}}}}"))[0].contains("too many")
    );
}
