//! Health and metrics of both programs over HTTP.

use egret_tests::harness::{Fleet, Options};

use crate::support::get;

#[test]
fn both_are_live_ready_and_measured() {
    let fleet = Fleet::start(&Options { dialect: Some("socks5"), ..Options::default() });
    for (admin, metric) in
        [(fleet.mta_admin, "egret_mta_queue_parts"), (fleet.proxy_admin, "egret_proxy_sources{state=\"held\"} 8")]
    {
        for path in ["/livez", "/readyz"] {
            let (status, answer) = get(admin, path);
            assert_eq!(status, 200, "{path}: {answer}");
        }
        let (status, answer) = get(admin, "/metrics");
        assert!(status == 200 && answer.contains(metric), "{metric} is missing: {answer}");
        assert_eq!(get(admin, "/nothing").0, 404);
    }
}
