//! The older text format (0.0.4) for readers that did not ask for OpenMetrics: curl, promtool, small scrapers.
//!
//! The sample lines are the same in both. Only the comments differ: the older format names a counter with its `_total`
//! and knows neither units nor an end marker.

/// The type of the text that [`from_open_metrics`] gives.
pub(super) const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// Rewrites the text of an encoded registry, which has no exemplars.
pub(super) fn from_open_metrics(text: &str) -> String {
    let mut classic = String::with_capacity(text.len());
    let mut help = "";
    for line in text.lines() {
        if let Some(described) = line.strip_prefix("# HELP ") {
            // Kept back: what it is called depends on the type, which is on the next line.
            help = described;
        } else if let Some((name, kind)) = line.strip_prefix("# TYPE ").and_then(|l| l.split_once(' ')) {
            let (suffix, kind) = match kind {
                "counter" => ("_total", "counter"),
                "info" => ("_info", "gauge"),
                "stateset" => ("", "gauge"),
                "unknown" => ("", "untyped"),
                same => ("", same),
            };
            if let Some(words) = help.strip_prefix(name) {
                classic.push_str(&format!("# HELP {name}{suffix}{words}\n"));
            }
            classic.push_str(&format!("# TYPE {name}{suffix} {kind}\n"));
        } else if !line.starts_with("# UNIT ") && line != "# EOF" {
            classic.push_str(line);
            classic.push('\n');
        }
    }
    classic
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metrics::Registry;

    #[test]
    fn only_the_comments_differ() {
        let open = "# HELP a_b Things.\n# TYPE a_b counter\na_b_total{x=\"# EOF\"} 1\n# HELP s S.\n# TYPE s gauge\n# UNIT s s\ns 2\n# EOF\n";
        let classic = "# HELP a_b_total Things.\n# TYPE a_b_total counter\na_b_total{x=\"# EOF\"} 1\n# HELP s S.\n# TYPE s gauge\ns 2\n";
        assert_eq!(from_open_metrics(open), classic);
        let all = Registry::new().encode();
        let samples =
            |text: &str| text.lines().filter(|l| !l.starts_with('#')).map(str::to_owned).collect::<Vec<_>>();
        assert_eq!(samples(&from_open_metrics(&all)), samples(&all));
    }
}
