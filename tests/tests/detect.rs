//! License managers are found by themselves: a daemon that runs is configured in one command, and counted.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::process::{Child, Command, Stdio};

use seatmeter_tests::process::text;
use seatmeter_tests::{TestCluster, wait_until};

/// A process that is ended with the test.
struct Daemon(Child);

impl Drop for Daemon {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn a_daemon_that_runs_is_configured_in_one_command_and_counted() {
    let cluster = TestCluster::running();
    let folder = cluster.path("flexlm");
    fs::create_dir(&folder).unwrap();
    let start = "8:00:00 (lmgrd) FlexNet Licensing (v11) started on lic (linux) (2/3/2026)\n";
    let out = "8:00:01 (vend) OUT: \"f\" ada@pc1  \n";
    let denied = "8:00:02 (vend) DENIED: \"f\" bob@pc2  (Licensed number of users already reached. (-4,342))\n";
    fs::write(folder.join("debug.log"), format!("{start}{out}{denied}{denied}")).unwrap();
    fs::write(folder.join("lmgrd"), "#!/bin/sh\nwhile read -r line; do :; done\n").unwrap();
    fs::set_permissions(folder.join("lmgrd"), fs::Permissions::from_mode(0o755)).unwrap();
    fs::write(folder.join("a.lic"), "SERVER lic ANY\nVENDOR vend\nINCREMENT f vend 1.0 permanent 3\n").unwrap();
    let mut daemon = Command::new("/bin/sh");
    // Its log is named from the folder in which it runs.
    daemon.args(["./lmgrd", "-c", "a.lic", "-l", "+debug.log"]).current_dir(&folder).stdin(Stdio::piped());
    let _daemon = Daemon(daemon.spawn().unwrap());
    let mut agent = cluster.agent_in("found", "LIC01", &[], "");
    let log = folder.join("debug.log").display().to_string();

    let shown = agent.command(&["detect"]);
    assert!(text(&shown.stdout).contains(&format!("path = \"{log}\"\n")), "{shown:?}");
    let state = agent.state().display().to_string();
    let url = cluster.agents_url();
    let written = agent.command(&["configure", "--force", "--aggregator", &url, "--name", "LIC01", "--state", &state]);
    assert!(written.status.success(), "{written:?}");
    let again = agent.command(&["detect", "--write"]);
    let told = text(&again.stdout);
    assert!(told.contains("# This one is configured.") && told.contains("needs no change"), "{told}");
    agent.start();
    let expected = "month,daemon,feature,users_checked_out,users_held,outs,ins,denials\n2026-02,vend,f,1,1,1,0,2\n";
    cluster.wait_for_activity("LIC01", expected);
    // Who holds what, and what was denied.
    let held = cluster.ask(&["sessions"]);
    let row = &held["rows"][0];
    assert_eq!(
        (&held["total"], &row["user"], &row["host"], &row["seats"]),
        (&1.into(), &"ada".into(), &"pc1".into(), &1.into())
    );
    assert!(row["since"].as_str().unwrap().starts_with("2026-02-03T"), "{row}");
    assert_eq!(cluster.ask(&["sessions", "--server", "lic01", "--sku", "F"])["total"], 1);
    let denied = cluster.ask(&["denials", "2026-02"])["rows"][0].clone();
    assert_eq!(
        (&denied["denials"], &denied["denial_lines"], &denied["users"]),
        (&1.into(), &2.into(), &1.into()),
        "{denied}"
    );

    // Its license file is found with it.
    wait_until("its licenses are known", || cluster.ask(&["entitlements"])["rows"][0]["licenses"] == 3);

    // Without the log in the configuration, it is added to what is there.
    agent.stop();
    agent.configure(&format!("path = \"{log}\""), "path = \"/nowhere/debug.log\"");
    let added = agent.command(&["detect", "--write"]);
    assert!(text(&added.stdout).contains("has 1 source more"), "{added:?}");
    let config = fs::read_to_string(&agent.config).unwrap();
    assert!(config.contains(&log) && config.contains("/nowhere/debug.log"), "{config}");
}
