use super::*;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    All,
    Exact,
    Template,
}

fn check(text: &str, expected: Result<Kind, SelectorError>) {
    let selector = Selector::parse(text);
    let kind = selector.as_ref().map_err(|&error| error).map(|selector| match selector {
        Selector::All => Kind::All,
        Selector::Exact(_) => Kind::Exact,
        Selector::Template(_) => Kind::Template,
    });
    assert_eq!(kind, expected, "{text:?}");
    if let Ok(selector) = selector {
        assert_eq!(selector.as_str(), text);
        assert_eq!(selector.to_string(), text);
        assert_eq!(Selector::parse(text), Ok(selector));
    }
}

#[test]
fn a_string_is_all_or_a_template_or_a_name() {
    check("*", Ok(Kind::All));
    check("**", Ok(Kind::Exact));
    check("orders/*", Ok(Kind::Exact));
    check("orders/42", Ok(Kind::Exact));
    check("orders/}", Ok(Kind::Exact));
    check("orders/{id}", Ok(Kind::Template));
    check("{id}", Ok(Kind::Template));
    check("orders/{id", Ok(Kind::Exact));
    check("orders/{}", Ok(Kind::Exact));
    check("two words/{id}", Ok(Kind::Exact));
}

#[test]
fn selectors_keep_the_bounds_of_topics() {
    check("", Err(SelectorError::Empty));
    check("a\nb", Err(SelectorError::Control));
    check("{id}\u{7F}", Err(SelectorError::Control));
    check(&"a".repeat(1024), Ok(Kind::Exact));
    check(&"a".repeat(1025), Err(SelectorError::TooLong { bytes: 1025 }));
    check(&format!("{{id}}{}", "a".repeat(1020)), Ok(Kind::Template));
    check(&format!("{{id}}{}", "a".repeat(1021)), Err(SelectorError::TooLong { bytes: 1025 }));
}

#[test]
fn a_selector_matches_what_it_contains() {
    let check = |selector: &str, topic: &str, expected: bool| {
        let selector = Selector::parse(selector).unwrap();
        let topic = Topic::parse(topic).unwrap();
        assert_eq!(selector.matches(&topic), expected, "{selector} {topic}");
    };
    check("*", "anything/at/all", true);
    check("orders/42", "orders/42", true);
    check("orders/42", "orders/421", false);
    check("orders/42", "Orders/42", false);
    check("orders/*", "orders/42", false);
    check("orders/*", "orders/*", true);
    check("orders/{id}", "orders/42", true);
    check("orders/{id}", "orders/{id}", true);
    check("orders/{id", "orders/{id", true);
    check("orders/{id", "orders/42", false);
}
