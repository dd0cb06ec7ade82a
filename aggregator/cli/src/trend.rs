//! `seatmeter trend`: SKUs as rows, months as columns.

use anyhow::Result;
use seatmeter_proto::v1::GetTrendRequest;
use seatmeter_proto::v1::usage_service_client::UsageServiceClient;
use seatmeter_service::answer;
use seatmeter_service::screen::table::{View, grid, page_width};
use seatmeter_service::screen::text::{count, thousands, visible};
use serde::Serialize;

use crate::connect::Channel;
use crate::months::month;
use crate::notes::{BasisJson, tell_basis, zone};
use crate::usage::{COLUMNS, SkuRow};

#[derive(clap::Args)]
pub(crate) struct Trend {
    /// The first month, YYYY-MM; eleven months before the last if none is given
    #[arg(long, value_name = "MONTH")]
    from: Option<String>,
    /// The last month, YYYY-MM or `last`; the current one if none is given
    #[arg(long, value_name = "MONTH")]
    through: Option<String>,
    /// Only this SKU
    #[arg(long, value_name = "SKU")]
    sku: Option<String>,
    /// Only this license server
    #[arg(long, value_name = "NAME")]
    server: Option<String>,
}

#[derive(Serialize)]
struct Envelope {
    basis: Option<BasisJson>,
}

pub(crate) async fn trend(channel: &Channel, asked: Trend, view: &View) -> Result<bool> {
    let mut client = UsageServiceClient::new(channel.clone());
    let mut request = GetTrendRequest {
        from_month: asked.from.map(|text| month(Some(&text))).unwrap_or_default(),
        through_month: month(asked.through.as_deref()),
        sku: asked.sku.unwrap_or_default(),
        license_server: asked.server.unwrap_or_default(),
        page_size: 10_000,
        page_token: String::new(),
    };
    let (mut rows, mut basis): (Vec<SkuRow>, _) = (Vec::new(), None);
    loop {
        let page = client.get_trend(request.clone()).await?.into_inner();
        rows.extend(page.rows.into_iter().map(SkuRow::from));
        basis = page.basis.or(basis);
        request.page_token = page.next_page_token;
        if request.page_token.is_empty() {
            break;
        }
    }
    let basis = basis.unwrap_or_default();
    if view.is_for_people() && view.columns.is_empty() && view.sort.is_none() {
        let Matrix { table, hidden } = matrix(&rows, view);
        answer!("{table}");
        if hidden > 0 {
            answer!("{} before these: see them with --wide.", count(hidden as u64, "month"));
        }
        tell_basis(&basis);
        answer!("A month marked - has no report. Users are unique by SKU and month.");
        if rows.iter().any(|row| !row.complete && row.unique_users.is_some()) {
            answer!("A month marked * is not complete: `seatmeter usage MONTH` says why.");
        }
    } else {
        let zone = zone(&basis.time_zone);
        view.print(COLUMNS, &rows, &Envelope { basis: Some(basis.into()) }, &zone)?;
    }
    Ok(true)
}

/// A table with a row for each SKU and a column of users for each month.
struct Matrix {
    table: String,
    /// The number of older months that do not fit.
    hidden: usize,
}

/// Makes the table of as many of the newest months as fit.
fn matrix(rows: &[SkuRow], view: &View) -> Matrix {
    let mut months: Vec<&str> = rows.iter().map(|row| row.month.as_str()).collect();
    months.sort_unstable();
    months.dedup();
    let skus: Vec<&[SkuRow]> = rows.chunk_by(|a, b| a.sku == b.sku).collect();
    let widest = skus.iter().map(|rows| rows[0].sku.chars().count()).max().unwrap_or(0).clamp(3, 28);
    let most = rows.iter().filter_map(|row| row.unique_users).max();
    // A heading takes five characters, and a mark of an incomplete month one behind its number.
    let cell = most.map_or(5, |users| (thousands(users).len() + 1).max(5));
    // Each month takes its cell, two blanks and one character in the column of bars.
    let room = page_width().saturating_sub(widest + 4) / (cell + 3);
    let shown = if view.wide { months.len() } else { months.len().min(room.max(1)) };
    let hidden = months.len() - shown;
    let months = &months[hidden..];
    let mut head = vec!["SKU".to_owned()];
    head.extend(months.iter().map(|month| month.get(2..).unwrap_or(month).to_owned()));
    head.push("Trend".into());
    let mut table = Vec::new();
    for rows in skus {
        let of_month = |month: &&str| rows.iter().find(|row| row.month == *month);
        let found: Vec<Option<&SkuRow>> = months.iter().map(of_month).collect();
        let mut line = vec![visible(&rows[0].sku)];
        line.extend(found.iter().map(|row| row.map_or_else(|| "-".into(), users)));
        line.push(bars(&found.iter().map(|row| row.and_then(|row| row.unique_users)).collect::<Vec<_>>()));
        table.push(line);
    }
    Matrix { table: grid(&head, &table, 1..=shown), hidden }
}

/// Returns the users of a month, marked if the month is not complete.
fn users(row: &SkuRow) -> String {
    match row.unique_users {
        None => "-".into(),
        Some(users) => format!("{}{}", thousands(users), if row.complete { "" } else { "*" }),
    }
}

/// Returns a bar for each month, its height relative to the highest month; a blank if the month's users are unknown.
fn bars(users: &[Option<u64>]) -> String {
    const BARS: [char; 8] = ['▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];
    let most = users.iter().flatten().max().copied().unwrap_or(0).max(1);
    users.iter().map(|users| users.map_or(' ', |users| BARS[(users * 7 / most) as usize])).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bars_are_as_high_as_their_months() {
        assert_eq!(bars(&[Some(0), Some(7), Some(14), None]), "▁▄█ ");
        assert_eq!(bars(&[Some(0)]), "▁");
    }
}
