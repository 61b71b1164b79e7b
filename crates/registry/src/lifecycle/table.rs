//! The tables as people read them.

use std::fmt::Write as _;

use super::{Command, Evidence, ReleaseState, Role, Status, Transition, VersionEvent};

/// Both transition tables in Markdown.
pub fn transition_tables() -> String {
    let mut text = String::from("A version's status:\n\n");
    let versions = VersionEvent::ALL.map(VersionEvent::transition);
    rows(&mut text, &versions, Status::as_str);
    text.push_str("\nA release's state:\n\n");
    let releases = Command::ALL.map(Command::transition);
    rows(&mut text, &releases, ReleaseState::as_str);
    text
}

fn rows<S: Copy>(text: &mut String, rows: &[Transition<S>], name: impl Fn(S) -> &'static str) {
    text.push_str("| command | from | to | who | must be shown | in a freeze |\n");
    text.push_str("| --- | --- | --- | --- | --- | --- |\n");
    for Transition { name: command, from, to, who, needs, freezes } in rows {
        let from = listed(from, &name, "(nothing)");
        let needs = listed(needs, Evidence::as_str, "a reason");
        let who = listed(who, Role::as_str, "nobody");
        let freeze = if *freezes { "refused" } else { "allowed" };
        let to = name(*to);
        writeln!(text, "| {command} | {from} | {to} | {who} | {needs} | {freeze} |")
            .expect("a string takes any text");
    }
}

fn listed<T: Copy>(items: &[T], name: impl Fn(T) -> &'static str, none: &str) -> String {
    if items.is_empty() {
        return none.to_owned();
    }
    items.iter().map(|item| name(*item)).collect::<Vec<_>>().join(", ")
}
