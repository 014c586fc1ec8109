//! The commands that there are, read from `--help`.

use crate::ground::Ground;
use std::collections::BTreeSet;

/// Every command without commands below it: `edge create identity`.
pub(crate) fn leaves(ground: &Ground) -> BTreeSet<String> {
    let mut leaves = BTreeSet::new();
    walk(ground, &mut Vec::new(), &mut leaves);
    leaves
}

fn walk(ground: &Ground, words: &mut Vec<String>, leaves: &mut BTreeSet<String>) {
    let below = below(ground, words);
    if below.is_empty() {
        leaves.insert(words.join(" "));
    }
    for name in below {
        words.push(name);
        walk(ground, words, leaves);
        words.pop();
    }
}

/// The names under `Commands:`, two spaces from the margin.
fn below(ground: &Ground, words: &[String]) -> Vec<String> {
    let help = ground.help(words);
    let listed = help.lines().skip_while(|line| *line != "Commands:").skip(1).take_while(|l| !l.is_empty());
    let names = listed.filter(|line| line.starts_with("  ") && !line.starts_with("   "));
    names
        .filter_map(|line| line.split_whitespace().next())
        .filter(|name| *name != "help")
        .map(str::to_owned)
        .collect()
}
