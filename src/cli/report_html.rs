//! The report as one page for a browser: no script, nothing from elsewhere.

use runsnap::operations::report::{Report, SweepReport, Usage};

use super::output::{bytes, counted};

const STYLE: &str = "body{font:15px/1.5 system-ui,sans-serif;max-width:60rem;margin:2rem auto;padding:0 1rem;color:#1c1c1e}\
h1{font-size:1.4rem}h2{font-size:1.1rem;margin-top:2rem}table{border-collapse:collapse;width:100%}\
th,td{text-align:right;padding:.3rem .6rem;border-bottom:1px solid #ddd}th:first-child,td:first-child{text-align:left}\
.bar{background:#e8eef7;height:1.1rem;margin:.2rem 0}.bar span{display:block;height:100%;background:#2f6fb7;min-width:1px}\
@media(prefers-color-scheme:dark){body{background:#1c1c1e;color:#eee}th,td{border-color:#444}.bar{background:#333}}";

/// The page.
pub fn page(report: &Report) -> String {
    let copies = &report.copies;
    let mut body = format!(
        "<h1>{:.2} % less than full copies</h1>\n<p>{} of {}: {} of code in {} of files. {} files and {} inodes saved.</p>\n",
        report.reduction_percent,
        counted(copies.runs, "run", "runs"),
        counted(copies.snapshots, "different snapshot", "different snapshots"),
        bytes(copies.logical_bytes),
        bytes(report.stored.bytes),
        report.files_saved,
        report.inodes_saved
    );
    body += &bar("full copies", copies.logical_bytes, copies.logical_bytes);
    body += &bar("stored", report.stored.bytes, copies.logical_bytes);
    body += "<h2>What is stored</h2>\n<table><tr><th></th><th>bytes</th><th>on disk</th><th>files</th></tr>\n";
    body.extend(
        report.parts().iter().chain(&[("together", report.stored)]).map(|(name, usage)| usage_row(name, usage)),
    );
    body += "</table>\n<h2>Sweeps</h2>\n<table><tr><th>sweep</th><th>runs</th><th>snapshots</th><th>full copies</th>\
             <th>content</th><th>run folders</th><th>reduction</th></tr>\n";
    body.extend(report.sweeps.iter().map(sweep_row));
    body += "</table>\n";
    for problem in &report.problems {
        body += &format!("<p>Problem: {}</p>\n", escape(problem));
    }
    format!(
        "<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\"><title>runsnap report</title>\
         <meta name=\"viewport\" content=\"width=device-width\"><style>{STYLE}</style></head>\n<body>\n{body}</body></html>\n"
    )
}

fn bar(name: &str, value: u64, of: u64) -> String {
    let width = if of == 0 { 0.0 } else { 100.0 * value as f64 / of as f64 };
    format!(
        "<div>{name}: {}</div><div class=\"bar\"><span style=\"width:{:.3}%\"></span></div>\n",
        bytes(value),
        width.min(100.0)
    )
}

fn usage_row(name: &str, usage: &Usage) -> String {
    let (length, allocated) = (bytes(usage.bytes), bytes(usage.allocated_bytes));
    format!("<tr><td>{name}</td><td>{length}</td><td>{allocated}</td><td>{}</td></tr>\n", usage.files)
}

fn sweep_row(sweep: &SweepReport) -> String {
    format!(
        "<tr><td>{}</td><td>{}</td><td>{}</td><td>{}</td><td>{}</td><td>{}</td><td>{:.2} %</td></tr>\n",
        escape(sweep.sweep.as_deref().unwrap_or("(none)")),
        sweep.copies.runs,
        sweep.copies.snapshots,
        bytes(sweep.copies.logical_bytes),
        bytes(sweep.content_bytes),
        bytes(sweep.run_folders.bytes),
        sweep.reduction_percent
    )
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_cannot_become_markup() {
        let sweep = SweepReport { sweep: Some("<script>&\"".to_owned()), ..SweepReport::default() };
        let page = page(&Report { sweeps: vec![sweep], ..Report::default() });
        assert!(page.contains("&lt;script&gt;&amp;&quot;") && !page.contains("<script>"), "{page}");
    }
}
