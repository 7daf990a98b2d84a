//! Shaping files that nobody would write: none makes the reader panic, and the order of unlike blocks does not count.

use std::fmt::Write as _;

use egret_mta::config::fuzz_shaping;
use proptest::prelude::*;

use super::{one, site};

proptest! {
    #[test]
    fn no_text_makes_the_reader_panic(text in "\\PC{0,200}") {
        fuzz_shaping(text.as_bytes());
    }

    #[test]
    fn no_toml_makes_the_reader_panic(
        lines in proptest::collection::vec(
            (
                prop_oneof![
                    Just("[\"default\"]"), Just("[provider.\"p\"]"), Just("[provider.p.sources.s]"), Just("[\"a.test\"]"),
                    Just("[[default.automation]]"), Just("[[\"a.test\".automation]]"), Just("[a.test]"), Just("provider = 1"),
                    Just("[[provider]]"), Just("[default.sources]"), Just("")
                ],
                prop_oneof![
                    Just("match"), Just("connection_limit"), Just("max_message_rate"), Just("sources"), Just("automation"),
                    Just("regex"), Just("action"), Just("trigger"), Just("mx_rollup"), Just("additional_connection_limits"),
                    Just("data_timeout"), Just("smtp_auth_plain_password"), Just("rustls_cipher_suites"), Just("x.y"),
                ],
                prop_oneof![
                    Just("1"), Just("-1"), Just("\"1/s\""), Just("[]"), Just("{}"), Just("{ a = 1 }"), Just("true"), Just("1.5"),
                    Just("[{ MXSuffix = \"\" }]"), Just("[{ HostName = 1 }]"), Just("{ Threshold = \"0/h\" }"), Just("1979-05-27"),
                    Just("\"\u{e9}\""), Just("{ SetConfig = { name = 1 } }"), Just("99999999999999999999"),
                ],
            ),
            0..12,
        )
    ) {
        let mut text = String::new();
        for (head, key, value) in &lines {
            let _ = write!(text, "{head}\n{key} = {value}\n");
        }
        fuzz_shaping(text.as_bytes());
    }

    /// Blocks of unlike kinds may stand in any order: the steps decide, not the places.
    #[test]
    fn the_order_of_unlike_blocks_does_not_count(order in Just([0_usize, 1, 2, 3, 4, 5]).prop_shuffle()) {
        let blocks = [
            "[\"default\"]\nconnection_limit = 1\nmax_message_rate = \"1/s\"\n",
            "[provider.\"p\"]\nmatch = [{ HostName = \"mx.test\" }]\nconnection_limit = 2\n",
            "[provider.\"p\".sources.\"s\"]\nconnection_limit = 3\nenable_rset = false\n",
            "[\"r.test\"]\nconnection_limit = 4\nadditional_connection_limits = { a = 1 }\n",
            "[\"d.test\"]\nmx_rollup = false\nconnection_limit = 5\nadditional_connection_limits = { a = 2, b = 3 }\n",
            "[\"d.test\".sources.\"s\"]\nmax_deliveries_per_connection = 6\n",
        ];
        let options = |order: &[usize]| {
            let shaper = one(&order.iter().map(|at| blocks[*at]).collect::<String>());
            shaper.learn("r.test", Ok("mx.test"));
            let site = site("mx.test!~d.test", &["mx.test"]);
            shaper.effective("s", &site).options.clone()
        };
        prop_assert_eq!(options(&order), options(&[0, 1, 2, 3, 4, 5]));
    }
}
