//! One page that needs nothing but itself.

use understudy_manifest::{Comparison, EvalReport};
use understudy_message::ToolCall;

use super::{
    Document,
    diff::{Part, words},
    escaped,
};
use crate::{
    CaseDiff, Reply,
    table::{
        SLICE_HEADER, attempt_lines, judge_lines, reuse_warning, row, slice_row, tallies,
        verdict_line,
    },
};

const STYLE: &str = "body{font:15px/1.45 system-ui,sans-serif;margin:2rem auto;max-width:70rem;\
padding:0 1rem;color:#1c2733;background:#fff}table{border-collapse:collapse;margin:1rem 0}\
td,th{border-bottom:1px solid #d5dbe1;padding:.3rem .7rem;text-align:left;vertical-align:top}\
td.n{text-align:right;font-variant-numeric:tabular-nums}pre{white-space:pre-wrap;margin:.3rem 0;\
padding:.5rem;background:#f4f6f8}ins{background:#d3f0d8;text-decoration:none}\
del{background:#fbd9d5}.loss,.fail{color:#a4271a}.win,.ok{color:#17692b}\
details{border-top:1px solid #d5dbe1;padding:.4rem 0}nav label{margin-right:1rem}\
main:has(#loss:not(:checked)) details.loss,main:has(#win:not(:checked)) details.win,\
main:has(#tie:not(:checked)) details.tie,main:has(#unscored:not(:checked)) details.unscored\
{display:none}";

pub(super) fn html(document: Document<'_>) -> String {
    let Document { report, cases } = document;
    let suite = escaped(&report.suite);
    let passed = if report.decision.passed { "passed" } else { "failed" };
    let head = format!(
        "<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\">\n\
         <meta name=\"viewport\" content=\"width=device-width\">\n\
         <title>{suite}: gate {passed}</title>\n<style>{STYLE}</style></head><body><main>\n\
         <h1>{suite}: gate {passed}</h1>\n<p>{} cases ({}), seed {}</p>\n",
        report.cases,
        report.suite_digest.short(),
        report.seed
    );
    let warning = reuse_warning(report)
        .map_or_else(String::new, |text| format!("<p class=\"fail\">{}</p>\n", escaped(&text)));
    let tables = [subjects(report), comparisons(report), conditions(report), slices(report)];
    let cases = if cases.is_empty() {
        "<p>The suite is sealed: single cases are not shown.</p>\n".to_owned()
    } else {
        FILTER.to_owned() + &cases.iter().map(case).collect::<String>()
    };
    [head, warning, tables.concat(), cases, "</main></body></html>\n".to_owned()].concat()
}

/// Boxes that the style sheet looks at; no script.
const FILTER: &str = "<h2>Cases</h2>\n<nav>\
<label><input type=\"checkbox\" id=\"loss\" checked> lost</label>\
<label><input type=\"checkbox\" id=\"win\" checked> won</label>\
<label><input type=\"checkbox\" id=\"tie\" checked> tied</label>\
<label><input type=\"checkbox\" id=\"unscored\" checked> unscored</label></nav>\n";

fn subjects(report: &EvalReport) -> String {
    let scorers: Vec<&str> = report.comparisons.iter().map(|c| c.scorer.as_str()).collect();
    let mut header = vec!["subject"];
    header.extend(&scorers);
    header.extend(["ms p50", "ms p95", "tokens out", "errors", "unscored"]);
    let rows = report.subjects.iter().map(|subject| {
        let mut cells = row(subject, &scorers);
        let unscored: u64 = subject.unscored.values().sum();
        cells.push(unscored.to_string());
        cells
    });
    table(&header, rows)
}

fn comparisons(report: &EvalReport) -> String {
    let line = |comparison: &Comparison| {
        let Comparison { minimum_detectable, scorer, .. } = comparison;
        format!(
            "<li>{}{}; {} cases would find a true difference of {minimum_detectable:.3} on {}</li>\n",
            escaped(&verdict_line(comparison)),
            tallies(comparison).map_or_else(String::new, |text| format!("; {}", escaped(&text))),
            report.cases,
            escaped(scorer)
        )
    };
    let notes = report.notes.iter().map(|note| format!("note: {note}"));
    let others = [attempt_lines(report), judge_lines(report), notes.collect()].concat();
    let others = others.iter().map(|text| format!("<li>{}</li>\n", escaped(text)));
    let lines: String = report.comparisons.iter().map(line).chain(others).collect();
    format!("<ul>\n{lines}</ul>\n")
}

fn conditions(report: &EvalReport) -> String {
    let row = |check: &understudy_manifest::GateCheck| {
        let word = if check.passed { "ok" } else { "fail" };
        format!(
            "<tr><td class=\"{word}\">{word}</td><td>{}</td><td>{}</td></tr>\n",
            escaped(&check.name),
            escaped(&check.detail)
        )
    };
    let rows: String = report.decision.checks.iter().map(row).collect();
    format!("<h2>Gate</h2>\n<table>\n{rows}</table>\n")
}

fn slices(report: &EvalReport) -> String {
    if report.slices.is_empty() {
        return String::new();
    }
    let rows = report.slices.iter().map(slice_row);
    format!("<h2>Slices</h2>\n{}", table(&SLICE_HEADER, rows))
}

/// The first column is a name, the others are figures.
fn table(header: &[&str], rows: impl Iterator<Item = Vec<String>>) -> String {
    let head: Vec<String> = header.iter().map(|cell| escaped(cell)).collect();
    let head = head.join("</th><th>");
    let cell = |(column, text): (usize, &String)| {
        let class = if column > 0 { " class=\"n\"" } else { "" };
        format!("<td{class}>{}</td>", escaped(text))
    };
    let row = |cells: Vec<String>| {
        let cells: String = cells.iter().enumerate().map(cell).collect();
        format!("<tr>{cells}</tr>\n")
    };
    let rows: String = rows.map(row).collect();
    format!("<table>\n<tr><th>{head}</th></tr>\n{rows}</table>\n")
}

fn case(case: &CaseDiff) -> String {
    let change = case.change.as_str();
    let tags: Vec<String> = case.tags.iter().map(|tag| escaped(tag)).collect();
    format!(
        "<details class=\"{change}\"><summary><span class=\"{change}\">{change}</span> \
         <b>{}</b> {}</summary>\n<pre>{}</pre>\n<p>expected</p><pre>{}</pre>\n{}{}</details>\n",
        escaped(&case.id),
        tags.join(", "),
        escaped(&case.prompt),
        escaped(&case.expected),
        reply("baseline", &case.expected, &case.baseline),
        reply("candidate", &case.expected, &case.candidate),
    )
}

fn reply(name: &str, expected: &str, reply: &Reply) -> String {
    let score = match (&reply.error, &reply.unscored, reply.score) {
        (Some(error), _, _) => format!("no answer: {}", escaped(error)),
        (_, Some(why), _) => format!("unscored: {}", escaped(why)),
        (_, _, score) => format!("{:.3}", score.unwrap_or(0.0)),
    };
    let call = |call: &ToolCall| format!("{}({})", call.function.name, call.function.arguments);
    let calls: Vec<String> = reply.calls.iter().map(call).collect();
    let text = words(expected, &reply.output)
        .map_or_else(|| escaped(&reply.output), |parts| parts.iter().map(marked).collect());
    format!("<p>{name}: {score}</p><pre>{text}{}</pre>\n", escaped(&calls.join("\n")))
}

fn marked(part: &Part<'_>) -> String {
    match part {
        Part::Same(text) => escaped(text),
        Part::Missing(text) => format!("<del>{}</del>", escaped(text)),
        Part::Extra(text) => format!("<ins>{}</ins>", escaped(text)),
    }
}
