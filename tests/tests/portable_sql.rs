//! No statement closes the way to PostgreSQL: every migration applies to a real one, and every statement that the program
//! can send is prepared there.

use seatmeter_aggregator::store::sql::Dialect;
use seatmeter_aggregator::store::statements::{all_statements, migrations};
use seatmeter_tests::postgres::Postgres;
use seatmeter_tests::process::text;

#[test]
fn every_statement_is_prepared_by_a_real_postgresql() {
    let Some(postgres) = Postgres::start() else { return };
    let mut script: String = migrations(Dialect::Postgres).iter().map(|sql| format!("{sql};\n")).collect();
    // The version's own table is made before the first migration.
    let (definitions, statements): (Vec<&str>, Vec<&str>) =
        all_statements().into_iter().partition(|sql| sql.starts_with("CREATE"));
    definitions.iter().for_each(|sql| script.push_str(&format!("{sql};\n")));
    assert!(statements.len() > 30, "only {} statements are listed", statements.len());
    for (index, sql) in statements.iter().enumerate() {
        script.push_str(&format!("PREPARE statement_{index} AS {sql};\n"));
    }
    let output = postgres.run(&script);
    assert!(output.status.success(), "{}", text(&output.stderr));
    // The same order everywhere: byte by byte, whatever the database's own language is.
    let order = postgres.run(
        "INSERT INTO license_server VALUES (1, 'b', 'b', ''), (2, 'B', 'B', ''), (3, 'ä', 'ä', ''), (4, 'a', 'a', '');
         COPY (SELECT name FROM license_server ORDER BY name_key) TO STDOUT;",
    );
    assert_eq!(text(&order.stdout), "B\na\nb\nä\n", "{}", text(&order.stderr));
}
