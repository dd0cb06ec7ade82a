//! `seatmeter report`.

use anyhow::Result;
use seatmeter_proto::v1::report_service_client::ReportServiceClient;
use seatmeter_proto::v1::{Customer, GetReportRequest, GetReportResponse, ReportLine};
use seatmeter_service::answer;
use seatmeter_service::screen::table::{Column, Kind, View, WIDE};
use seatmeter_service::screen::text::count;
use serde::Serialize;

use crate::connect::Channel;
use crate::month::state_word;
use crate::notes::{BasisJson, CompletenessJson, stamp, tell_basis, tell_completeness, yellow, zone};
use crate::rule_words::{people, unit_words};

/// What is reported and billed of a month, by customer and SKU; exit code 3 if the month is not complete
///
/// A person used by two customers counts for each, and once in the total. Who is seen free and
/// paid is paid. Who uses several editions of a product counts for the highest one. Preview
/// and final report are the same.
///
/// Examples:
///   seatmeter report                               last month
///   seatmeter report current                       what this month comes to so far
///   seatmeter report 2026-11 --customer acme       what one customer gets
///   seatmeter report 2026-11 --output csv          for a spreadsheet
#[derive(clap::Args)]
#[command(verbatim_doc_comment)]
pub(crate) struct Report {
    /// The month, as YYYY-MM, `last` or `current` [default: last]
    month: Option<String>,
    /// Only this customer, by its short name
    #[arg(long, value_name = "ID", default_value = "", hide_default_value = true)]
    customer: String,
    /// The figures as they are now, though the month is approved
    #[arg(long)]
    live: bool,
}

/// A line. The field names are those in JSON and CSV, and must not change.
#[derive(Serialize)]
struct LineRow {
    month: String,
    customer: Option<String>,
    customer_name: Option<String>,
    sku: String,
    product: Option<String>,
    part_number: Option<String>,
    unit: &'static str,
    quantity: u64,
    adjustment: i64,
    users: u64,
    free_users: u64,
    counted_elsewhere: u64,
    devices: u64,
    peak_concurrent: u64,
    seat_hours: u64,
    previous_quantity: u64,
    change: i64,
    entitled: Option<u64>,
    minimum: Option<u64>,
    price: Option<String>,
    country: Option<String>,
    contract: Option<String>,
}

const COLUMNS: &[Column] = &[
    Column::new("month", "Month", Kind::Text, 9),
    Column::new("customer", "Customer", Kind::Text, 0),
    Column::new("customer_name", "Name", Kind::Text, 6),
    Column::new("sku", "SKU", Kind::Text, 0),
    Column::new("product", "Product", Kind::Text, 3),
    Column::new("part_number", "Part number", Kind::Text, 7),
    Column::new("unit", "Unit", Kind::Text, 1),
    Column::new("quantity", "Quantity", Kind::Number, 0),
    Column::new("adjustment", "Adjusted", Kind::Number, 6),
    Column::new("users", "Users", Kind::Number, 2),
    Column::new("free_users", "Free", Kind::Number, 0),
    Column::new("counted_elsewhere", "Other edition", Kind::Number, 5),
    Column::new("devices", "Devices", Kind::Number, 8),
    Column::new("peak_concurrent", "Peak", Kind::Number, 8),
    Column::new("seat_hours", "Seat-hours", Kind::Number, WIDE),
    Column::new("previous_quantity", "Before", Kind::Number, 1),
    Column::new("change", "Change", Kind::Number, 1),
    Column::new("entitled", "Entitled", Kind::Number, 4),
    Column::new("minimum", "Minimum", Kind::Number, 8),
    Column::new("price", "Price", Kind::Text, 8),
    Column::new("country", "Country", Kind::Text, WIDE),
    Column::new("contract", "Contract", Kind::Text, WIDE),
];

impl LineRow {
    fn of(line: ReportLine, month: &str, customers: &[Customer]) -> Self {
        let told = |text: &str| Some(text.to_owned()).filter(|text| !text.is_empty());
        let customer = customers.iter().find(|customer| customer.id == line.customer);
        let change = line.quantity as i64 - line.previous_quantity as i64;
        Self {
            month: month.to_owned(),
            customer_name: customer.and_then(|customer| told(&customer.name)),
            country: customer.and_then(|customer| told(&customer.country)),
            contract: customer.and_then(|customer| told(&customer.contract)),
            unit: unit_words(line.unit()),
            customer: told(&line.customer),
            sku: line.sku,
            product: line.catalogued.then_some(line.product),
            part_number: told(&line.part_number),
            quantity: line.quantity,
            adjustment: line.adjustment,
            users: line.users,
            free_users: line.free_users,
            counted_elsewhere: line.counted_elsewhere,
            devices: line.devices,
            peak_concurrent: line.peak_concurrent,
            seat_hours: line.seat_hours,
            previous_quantity: line.previous_quantity,
            change,
            entitled: line.entitled,
            minimum: line.minimum,
            price: told(&line.price),
        }
    }
}

#[derive(Serialize)]
struct Envelope {
    month: String,
    totals: Vec<LineRow>,
    users: u64,
    free_users: u64,
    ended: bool,
    state: &'static str,
    revision: Option<u64>,
    sha256: Option<String>,
    made_at: Option<String>,
    basis: Option<BasisJson>,
    completeness: Option<CompletenessJson>,
}

pub(crate) async fn report(channel: &Channel, asked: Report, view: &View) -> Result<bool> {
    let mut client = ReportServiceClient::new(channel.clone());
    let request =
        GetReportRequest { month: asked.month.unwrap_or_default(), customer: asked.customer.clone(), live: asked.live };
    let found = client.get_report(request).await?.into_inner();
    let GetReportResponse { month, customers, .. } = &found;
    let rows = |lines: &[ReportLine]| -> Vec<LineRow> {
        lines.iter().map(|line| LineRow::of(line.clone(), month, customers)).collect()
    };
    let mut lines = rows(&found.lines);
    let (basis, completeness) =
        (found.basis.clone().unwrap_or_default(), found.completeness.clone().unwrap_or_default());
    let zone = zone(&basis.time_zone);
    let unassigned = lines.iter().filter(|line| line.customer.is_none() && line.quantity > 0).count() as u64;
    let envelope = Envelope {
        month: month.clone(),
        totals: rows(&found.totals),
        users: found.users,
        free_users: found.free_users,
        ended: found.ended,
        state: state_word(found.state()),
        revision: Some(found.revision).filter(|revision| *revision > 0),
        sha256: Some(data_encoding::HEXLOWER.encode(&found.sha256)).filter(|hash| !hash.is_empty()),
        made_at: stamp(found.made_at.as_ref()),
        basis: found.basis.clone().map(BasisJson::from),
        completeness: found.completeness.as_ref().map(CompletenessJson::new),
    };
    if view.is_for_people() && view.sort.is_none() && !customers.is_empty() {
        lines.extend(rows(&found.totals).into_iter().map(|line| LineRow { customer: Some("in all".into()), ..line }));
    }
    view.print(COLUMNS, &lines, &envelope, &zone)?;
    if view.is_for_people() {
        let (users, free) = (people(found.users), found.free_users);
        answer!("{month}: {users} in all, {free} of them free.");
        if found.revision > 0 {
            let state = state_word(found.state());
            answer!("Revision {}, {state}; SHA-256 {}", found.revision, data_encoding::HEXLOWER.encode(&found.sha256));
        }
        if !found.ended {
            anstream::eprintln!("{}: the month has not ended: these figures still grow", yellow("note"));
        }
        if unassigned > 0 && !customers.is_empty() {
            let lines = count(unassigned, "line");
            anstream::eprintln!(
                "{}: {lines} are no customer's: `seatmeter rules add 'assign = {{ customer = ..., who = ... }}'`",
                yellow("note")
            );
        }
        tell_basis(&basis);
        tell_completeness(&completeness, &zone);
    }
    Ok(completeness.complete)
}
