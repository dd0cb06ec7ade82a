//! tmp
#[allow(clippy::print_stdout)]
fn main() {
    let paths: Vec<std::path::PathBuf> = std::env::args_os().skip(1).map(Into::into).collect();
    let scan = seatmeter_agent::scan::scan(&paths, None);
    let mut w = csv::Writer::from_writer(std::io::stdout());
    for r in &scan.rows { w.serialize(r).unwrap(); }
    w.flush().unwrap();
    eprintln!("{:?} undated {:?} unreadable {:?}", scan.lines, scan.undated, scan.unreadable);
    for s in scan.samples { eprintln!("{}:{} {} {}", s.path.display(), s.line, s.reason, s.text); }
}
