use tidings_core::Rights;

use super::*;

fn check(interest: &str, rule: &str, expected: bool) {
    let interest =
        Interest::new(vec![Selector::parse(interest).unwrap()], vec![], Rights::everything());
    let rule = Selector::parse(rule).unwrap();
    assert_eq!(may_meet(&interest, &rule), expected, "{interest:?} and {rule:?}");
}

#[test]
fn patterns_meet_unless_their_beginnings_differ() {
    check("*", "prices/{x}", true);
    check("prices/{x}", "*", true);
    check("prices/{x}", "prices/eu/{y}", true);
    check("prices/eu/{y}", "prices/{x}", true);
    check("prices/{x}", "orders/{y}", false);
    check("prices/a", "prices/{x}", true);
    check("orders/a", "prices/{x}", false);
    check("prices/{x}", "prices/a", true);
    check("prices/{x}", "orders/a", false);
    // An expansion may write the same letter in two ways.
    check("caf\u{e9}/{x}", "caf%C3%A9/{x}", true);
}
