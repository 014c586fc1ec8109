//! The text formats: what is read, and what is refused, where.

use hesper_prometheus::{
    labels::Labels,
    text::{Exemplar, Format, Kind, Limits, Line, ParseError, Parser, Sample},
};
use std::borrow::Cow;

fn read(text: &str, format: Format) -> Result<Vec<Line<'_>>, ParseError> {
    Parser::new(text, format, Limits::default()).collect()
}

fn sample<'a>(name: &'a str, labels: &[(&'a str, &'a str)], value: f64) -> Sample<'a> {
    let labels = labels.iter().map(|(n, v)| (Cow::Borrowed(*n), Cow::Borrowed(*v))).collect();
    Sample {
        name: name.into(),
        labels: Labels::parsed(labels).expect("labels"),
        value,
        time_ms: None,
        exemplar: None,
    }
}

#[test]
fn the_example_of_the_documentation() {
    let text = "\
# HELP http_requests_total The total number of HTTP requests.
# TYPE http_requests_total counter
http_requests_total{method=\"post\",code=\"200\"} 1027 1395066363000

# Escaping in label values:
msdos_file_access_time_seconds{path=\"C:\\\\DIR\\\\FILE.TXT\",error=\"Cannot find file:\\n\\\"FILE.TXT\\\"\"} 1.458255915e9
metric_without_timestamp_and_labels 12.47
# A weird metric from before the epoch:
something_weird{problem=\"division by zero\"} +Inf -3982045
";
    let lines = read(text, Format::Text).expect("lines");
    let help = Line::Help {
        family: "http_requests_total".into(),
        text: "The total number of HTTP requests.".into(),
    };
    let time = |sample: Sample<'static>, time| Sample { time_ms: Some(time), ..sample };
    let expected = [
        help,
        Line::Type { family: "http_requests_total".into(), kind: Kind::Counter },
        Line::Sample(time(
            sample("http_requests_total", &[("method", "post"), ("code", "200")], 1027.0),
            1_395_066_363_000,
        )),
        Line::Sample(sample(
            "msdos_file_access_time_seconds",
            &[("path", "C:\\DIR\\FILE.TXT"), ("error", "Cannot find file:\n\"FILE.TXT\"")],
            1.458_255_915e9,
        )),
        Line::Sample(sample("metric_without_timestamp_and_labels", &[], 12.47)),
        Line::Sample(time(
            sample("something_weird", &[("problem", "division by zero")], f64::INFINITY),
            -3_982_045,
        )),
    ];
    assert_eq!(lines, expected);
}

#[test]
fn text_allows_spaces_and_commas() {
    for text in [
        "a{b=\"1\"} 2",
        "a{b=\"1\",} 2\n",
        "  a { b = \"1\" , } 2  \n",
        "\ta\t{b=\"1\"}\t2\t\n",
        "a{b=\"1\"}2\n",
        "#\n# no comment on anything\n#TYPELESS x\na{b=\"1\"} 2\n",
        "{\"a\",b=\"1\"} 2\n",
        "{b=\"1\",\"a\"} 2\n",
        "{\"a\",\"b\"=\"1\"} 2\n",
    ] {
        let lines = read(text, Format::Text).unwrap_or_else(|error| panic!("{text:?}: {error}"));
        assert_eq!(lines, [Line::Sample(sample("a", &[("b", "1")], 2.0))], "{text:?}");
    }
}

#[test]
fn names_in_quotes_may_be_anything() {
    let text = "# TYPE \"my.metric\" gauge\n# HELP \"my.metric\" a \\\\ b\n{\"my.metric\",\"label ü\"=\"x\\\"\"} NaN\n";
    for (text, format) in [(text.to_owned(), Format::Text), (format!("{text}# EOF\n"), Format::OpenMetrics)] {
        let lines = read(&text, format).expect("lines");
        assert_eq!(lines[0], Line::Type { family: "my.metric".into(), kind: Kind::Gauge });
        assert_eq!(lines[1], Line::Help { family: "my.metric".into(), text: "a \\ b".into() });
        let Line::Sample(sample) = &lines[2] else { panic!("{lines:?}") };
        assert_eq!((&*sample.name, sample.labels.get("label ü")), ("my.metric", "x\""));
        assert!(sample.value.is_nan());
        assert_eq!(sample.value.to_bits(), f64::NAN.to_bits(), "never the mark of staleness");
    }
}

#[test]
fn numbers() {
    for (text, value) in [
        ("1", 1.0),
        ("-1.5e-3", -0.0015),
        ("+Inf", f64::INFINITY),
        ("-Inf", f64::NEG_INFINITY),
        ("Inf", f64::INFINITY),
        (".5", 0.5),
        ("1e300", 1e300),
    ] {
        let line = format!("a {text}\n");
        assert_eq!(read(&line, Format::Text).expect(text), [Line::Sample(sample("a", &[], value))], "{text}");
    }
}

#[test]
fn open_metrics() {
    let text = "\
# TYPE foo histogram
# UNIT foo_seconds seconds
# HELP foo say \\\"hi\\\"
foo_bucket{le=\"0.1\"} 8 # {} 0.054
foo_bucket{le=\"1\"} 11 1520879607.789 # {trace_id=\"KOO5S4vxi0o\",span_id=\"a\"} 0.67 1520879607.7
foo_created 1520872607.123
# TYPE s stateset
s{s=\"a\"} 1 1520879607
# EOF
";
    let lines = read(text, Format::OpenMetrics).expect("lines");
    assert_eq!(lines[1], Line::Unit { family: "foo_seconds".into(), unit: "seconds" });
    assert_eq!(lines[2], Line::Help { family: "foo".into(), text: "say \"hi\"".into() });
    let exemplar = |labels: &[(&'static str, &'static str)], value, time_ms| {
        let Sample { labels, .. } = sample("", labels, 0.0);
        Some(Exemplar { labels, value, time_ms })
    };
    let first =
        Sample { exemplar: exemplar(&[], 0.054, None), ..sample("foo_bucket", &[("le", "0.1")], 8.0) };
    assert_eq!(lines[3], Line::Sample(first));
    let second = Sample {
        time_ms: Some(1_520_879_607_789),
        exemplar: exemplar(&[("trace_id", "KOO5S4vxi0o"), ("span_id", "a")], 0.67, Some(1_520_879_607_700)),
        ..sample("foo_bucket", &[("le", "1")], 11.0)
    };
    assert_eq!(lines[4], Line::Sample(second));
    assert_eq!(lines[6], Line::Type { family: "s".into(), kind: Kind::StateSet });
    assert_eq!(lines.len(), 8);
    assert_eq!(read("# EOF", Format::OpenMetrics), Ok(vec![]), "nothing at all is fine");
}

#[test]
fn bad_text_is_refused_where_it_is_bad() {
    for (text, line, column, reason) in [
        ("a 1\nb\n", 2, 2, "there is no value here"),
        ("a one\n", 1, 3, "the value 'one' is no number"),
        ("a 1 2 3\n", 1, 7, "something behind the sample"),
        ("a 1 1.5\n", 1, 5, "'1.5' is no timestamp"),
        ("a 1 # {x=\"y\"} 1\n", 1, 5, "'#' is no timestamp"),
        ("a{b=\"1\",b=\"2\"} 1\n", 1, 2, "the label b is there twice"),
        ("a{__name__=\"x\"} 1\n", 1, 2, "the label __name__"),
        ("a{b=\"1} 1\n", 1, 5, "the quotes do not end"),
        ("a{b=1} 1\n", 1, 5, "not in quotes"),
        ("a{b} 1\n", 1, 4, "no = behind the label b"),
        ("a{1=\"1\"} 1\n", 1, 3, "no name of a label"),
        ("a{b=\"1\" c=\"2\"} 1\n", 1, 9, "neither , nor }"),
        ("a{\"b\"} 1\n", 1, 7, "two names"),
        ("{b=\"1\"} 1\n", 1, 8, "no name"),
        ("{\"a\",\"b\"} 1\n", 1, 9, "two names"),
        ("1a 1\n", 1, 1, "neither a comment nor the name"),
        ("\"a\" 1\n", 1, 1, "neither a comment nor the name"),
        ("a 0x1p-2\n", 1, 3, "is no number"),
        ("# TYPE a meter\n", 1, 10, "'meter' is no type"),
        ("# TYPE 1\n", 1, 8, "no name of a metric"),
    ] {
        let error = read(text, Format::Text).expect_err(text);
        assert_eq!((error.line, error.column), (line, column), "{text}: {error}");
        assert!(error.to_string().contains(reason), "{text}: {error}");
    }
}

#[test]
fn bad_open_metrics_is_refused() {
    for (text, reason) in [
        ("a 1\n", "cut short"),
        ("", "cut short"),
        ("a 1\n# EOF\nb 1\n", "behind # EOF"),
        ("a 1\n# EOF\n\n", "behind # EOF"),
        ("\n# EOF\n", "blank"),
        ("# a comment\n# EOF\n", "no comments besides"),
        ("#TYPE a gauge\n# EOF\n", "no space"),
        ("a  1\n# EOF\n", "no value"),
        ("a 1 \n# EOF\n", "no timestamp here"),
        ("a{b=\"1\"}1\n# EOF\n", "no space"),
        ("a { b=\"1\"} 1\n# EOF\n", "the value '{' is no number"),
        ("a 1 1e30\n# EOF\n", "is no timestamp"),
        ("a 1 NaN\n# EOF\n", "is no timestamp"),
        ("a 1 # {b=\"1\"}\n# EOF\n", "no space"),
        ("a 1 # {\"b\"} 1\n# EOF\n", "has no value"),
        ("a 1 #{} 1\n# EOF\n", "behind the sample"),
    ] {
        let error = read(text, Format::OpenMetrics).expect_err(text);
        assert!(error.to_string().contains(reason), "{text:?}: {error}");
    }
}

#[test]
fn lines_and_labels_are_bounded() {
    let limits = Limits { line: 20, labels: 2 };
    let read = |text| Parser::new(text, Format::Text, limits).collect::<Result<Vec<_>, _>>();
    assert!(read("a{b=\"1\",c=\"2\"} 12345").is_ok_and(|lines| lines.len() == 1));
    let error = read("x 1\na{b=\"1\",c=\"2\"} 1234567").expect_err("too long");
    assert_eq!((error.line, error.reason.as_str()), (2, "the line has more than 20 bytes"));
    let error = read("a{b=\"\",c=\"\",d=\"\"} 1").expect_err("too many");
    assert!(error.reason.contains("more than 2 labels"), "{error}");
}

#[test]
fn bytes_must_be_utf8() {
    let error =
        Parser::of_bytes(b"a 1\nb{c=\"\xff\"} 1\n", Format::Text, Limits::default()).expect_err("bytes");
    assert_eq!(error.to_string(), "line 2, byte 6: this is not UTF-8");
}
