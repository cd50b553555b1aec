use std::sync::LazyLock;

use proptest::prelude::*;
use regex::Regex;

use super::*;

fn template(text: &str) -> Option<Template> {
    Template::parse(&Topic::parse(text).unwrap())
}

#[track_caller]
fn check(text: &str, matching: &[&str], others: &[&str]) {
    let template = template(text).unwrap_or_else(|| panic!("{text} is valid"));
    for topic in matching {
        assert!(template.matches(&Topic::parse(topic).unwrap()), "{text} matches {topic}");
    }
    for topic in others {
        assert!(!template.matches(&Topic::parse(topic).unwrap()), "{text} leaves {topic}");
    }
}

#[test]
fn a_simple_expression_is_a_run_without_reserved_characters() {
    check(
        "orders/{id}",
        &["orders/42", "orders/", "orders/a-b.c_d~e,f", "orders/%2F", "orders/{id}"],
        &["orders", "orders/4/2", "orders/4?", "orders/a=b", "orders/%2", "orders/%zz", "x/42"],
    );
    check("orders/{id}", &["orders/%41%42x"], &["orders/%41%4", "orders/é", "orders/a b"]);
    check("{x}", &["a", ","], &["/", "a/", "/a"]);
    check("{x}/{y}", &["/", "a/", "/b", "a/b"], &["a", "a/b/c"]);
    check("{x}{y}", &["ab", "a"], &["a/b"]);
    check("a{x}a", &["aa", "aaa", "aba"], &["a", "ab", "ba"]);
    check("a{x}a{y}a", &["aaa", "aaaa", "abaca"], &["aa", "abca!"]);
}

#[test]
fn the_place_of_a_run_is_not_guessed() {
    check("{x}ab{y}", &["ab", "aab", "abab", "xabab"], &["a", "ba", "aXb"]);
    check("x{a}-end", &["x-end", "x-end-end"], &["x-en", "x-end-"]);
    check("ab{x}bc", &["abbc", "abXbc"], &["abc"]);
}

#[test]
fn reserved_expansion_crosses_slashes() {
    check("files/{+path}", &["files/", "files/a/b?c=d#e", "files/%2f[1]"], &["files/ ", "files/%"]);
    check("{+a}/end", &["/end", "x/y/end", "/end/end"], &["x/en", "end"]);
    check("x{#frag}", &["x", "x#", "x#a/b", "x##"], &["xa", "y#"]);
}

#[test]
fn an_operator_demands_its_first_character_unless_nothing_is_there() {
    check("x{.a}", &["x", "x.", "x.json", "x.a.b"], &["xjson", "x/json"]);
    check("x{/a}", &["x", "x/", "x/a"], &["xa", "x/a/b", "x//"]);
    check("x{;a}", &["x", "x;", "x;a=1"], &["x;a;b", "xa"]);
    check("x{?a}", &["x", "x?", "x?a=1", "x?anything=1", "x?a=b=c"], &["x?a=1&b=2", "xa=1", "x??"]);
    check("x{&a}", &["x", "x&a=1"], &["x?a=1", "x&a&b"]);
}

#[test]
fn n_variables_have_at_most_n_minus_one_separators() {
    check("x{/a,b}", &["x/1", "x/1/2", "x//", "x/"], &["x/1/2/3", "x///"]);
    check("x{;a,b}", &["x;a=1;b=2", "x;;"], &["x;a;b;c"]);
    check("x{?a,b,c}", &["x?a=1&b=2&c=3", "x?&&"], &["x?a&b&c&d", "x&a"]);
    check("x{&a,b}", &["x&1&2"], &["x&1&2&3", "x&1;2"]);
    check("x{a,b}", &["x1,2,3,4,5"], &["x1/2"]);
}

#[test]
fn an_exploded_variable_repeats_without_limit() {
    check("x{/a*}", &["x", "x/1/2/3/4", "x////", "x/k=v"], &["xa/", "x/?"]);
    check("x{?a*}", &["x?a=1&b=2&c=3"], &["x?a;b"]);
    check("x{?a,b*}", &["x?1&2&3&4"], &["x?1/2"]);
    check("x{a*}", &["xk=v,l=w"], &["xk/v"]);
    check("x{a,b*}", &["xk,v,l"], &["xk=v"]);
    check("x{/a,b*}", &["x/1/2/3"], &["x/k=v"]);
}

#[test]
fn each_operator_has_its_characters() {
    let alphanumeric: String = ('0'..='9').chain('A'..='Z').chain('a'..='z').collect();
    let value = alphanumeric + "-._~,";
    let reserved = "!#$&'()*+,/:;=?@[]";
    let pair = format!("{value}=");
    let both = format!("{value}{reserved}");
    let rows = [
        ("x{a}", "x", &value),
        ("x{a*}", "x", &pair),
        ("x{+a}", "x", &both),
        ("x{#a}", "x#", &both),
        ("x{.a}", "x.", &value),
        ("x{/a}", "x/", &value),
        ("x{;a}", "x;", &pair),
        ("x{?a}", "x?", &pair),
        ("x{&a}", "x&", &pair),
    ];
    for (text, before, allowed) in rows {
        for c in (' '..='~').chain(['é', '日']) {
            let topic = [format!("{before}{c}")];
            let topic = topic.each_ref().map(String::as_str);
            let [matching, others]: [&[&str]; 2] =
                if allowed.contains(c) { [&topic, &[]] } else { [&[], &topic] };
            check(text, matching, others);
        }
    }
}

#[test]
fn names_and_prefix_lengths_do_not_matter() {
    check("x{a:3}", &["x", "xabcdef"], &["x/"]);
    check("x{?topic}", &["x?other=1"], &["x?a&b"]);
    check("x{a.b.c,%41_9:9999}", &["x1,2"], &["x/"]);
}

#[test]
fn literals_stand_for_themselves() {
    check("a.b+c(d)[e]{x}", &["a.b+c(d)[e]1"], &["aXb+c(d)[e]1"]);
    check("%41{x}", &["%41b", "%41"], &["A", "%4"]);
    check("{x}%2Fy", &["%2Fy", "a%2Fy", "%2F%2Fy"], &["/y", "%2fy", "2Fy"]);
    check("grüße/{x}/日本", &["grüße/1/日本"], &["grusse/1/日本", "grüße/日本"]);
    check("{x}é{y}", &["é", "aéb"], &["ab", "aééb"]);
    check("it's/{x}", &["it's/1"], &["its/1"]);
}

#[test]
fn a_template_matches_its_own_text() {
    check("x{?a*}y{/b,c}", &["x{?a*}y{/b,c}"], &["x{?a*}y{/b,d}", "x{?b*}y{/b,c}"]);
}

#[test]
fn a_run_crosses_words_of_64_places() {
    for length in [62, 63, 64, 65, 126, 127, 128, 129, 1000] {
        let run = "a".repeat(length);
        let [short, long] = [run.clone() + "/", run.clone() + "/b"];
        let triplets = "%41".repeat(length / 3);
        check("{x}", &[&run, &triplets], &[&short, &(triplets.clone() + "%4")]);
        check("{x}/{y}", &[&short, &long], &[&run]);
        check(
            "{/x,y}",
            &[&format!("/{run}"), &format!("/{run}/b")],
            &[&short, &format!("/{run}//")],
        );
    }
}

#[test]
fn what_is_not_a_template_is_refused() {
    for text in [
        "plain",
        "{",
        "}",
        "{}",
        "a{b",
        "a}b",
        "a}{b}",
        "{b}}",
        "{{b}}",
        "{a{b}}",
        "{+}",
        "{?}",
        "{a,}",
        "{,a}",
        "{a,,b}",
        "{a b}",
        "{a-b}",
        "{é}",
        "{.}",
        "{a.}",
        "{.a.}",
        "{a..b}",
        "{%4}",
        "{%4.1}",
        "{%zz}",
        "{a:}",
        "{a:0}",
        "{a:01}",
        "{a:12345}",
        "{a:+1}",
        "{a:x}",
        "{a:3*}",
        "{a*:3}",
        "{a**}",
        "{*}",
        "{:3}",
        "{=a}",
        "{,a}",
        "{!a}",
        "{@a}",
        "{|a}",
        "{++a}",
        "{$a}",
        "a b{c}",
        "\"{c}",
        "%{c}",
        "%4{c}",
        "%4{c}1",
        "%zz{c}",
        "<{c}",
        ">{c}",
        "\\{c}",
        "^{c}",
        "`{c}",
        "|{c}",
        "\u{FDD0}{c}",
        "\u{FFF0}{c}",
        "\u{1FFFE}{c}",
        "\u{E0001}{c}",
        "\u{10FFFF}{c}",
    ] {
        assert!(template(text).is_none(), "{text}");
    }
}

#[test]
fn the_literal_prefix_ends_at_the_first_expression() {
    for (text, prefix) in [("{x}", ""), ("orders/{id}", "orders/"), ("é{x}b{y}", "é")] {
        assert_eq!(template(text).unwrap().literal_prefix(), prefix);
    }
}

#[test]
fn work_is_bounded_by_template_bytes_times_topic_words() {
    let fill = |piece: &str, bytes: usize| piece.repeat(bytes / piece.len());
    let variables = fill("a,", Topic::BYTES_MAX - 8) + "a";
    let templates = [
        fill("{x}", Topic::BYTES_MAX),
        fill("{x}a", Topic::BYTES_MAX),
        fill("{+x}", Topic::BYTES_MAX),
        fill("{x}aaaa{+y}a", Topic::BYTES_MAX),
        fill("{/x}{/x*}", Topic::BYTES_MAX),
        format!("{{/{variables}}}"),
        format!("{{?{variables}}}{{x}}"),
        format!("{{?{variables}*}}"),
    ];
    let topics = ["a", "/", "?&", "&", "a/", "aaaaaaaaaaaaaab", "%41"]
        .map(|piece| Topic::parse(&fill(piece, Topic::BYTES_MAX)).unwrap());
    let words = Topic::BYTES_MAX / 64 + 1;
    for text in templates {
        let template = template(&text).unwrap();
        let most =
            topics.iter().map(|topic| template.matches_counted(&TopicBits::new(topic)).1).max();
        assert!(most <= Some(text.len() * words), "{most:?} steps for {text}");
    }
}

#[test]
fn separators_that_are_in_the_run_anyway_cost_nothing() {
    let steps = |text: &str| {
        let topic = Topic::parse(&",".repeat(1000)).unwrap();
        template(text).unwrap().matches_counted(&TopicBits::new(&topic))
    };
    assert_eq!(steps(&format!("{{{}a}}", "a,".repeat(400))), steps("{a,a}"));
}

#[test]
fn parts_take_little_memory() {
    assert!(size_of::<Part>() <= 8, "the module doc promises 8 bytes for a byte of text");
}

// What follows compares with two regular expressions: one for the grammar, and one made of each
// template as the Mercure specification tells.

const NAME: &str = "(?:[0-9A-Za-z_]|%[0-9A-Fa-f]{2})+";

static GRAMMAR: LazyLock<Regex> = LazyLock::new(|| {
    let variable = format!(r"{NAME}(?:\.{NAME})*(?:\*|:[1-9][0-9]{{0,3}})?");
    let expression = format!(r"\{{[+#./;?&]?{variable}(?:,{variable})*\}}");
    let excluded = r#"\x00- "%<>\\^`{|}\x7F-\x{9F}\x{FDD0}-\x{FDEF}\x{FFF0}-\x{FFFF}"#;
    let planes_end: String = (1..=16).map(|n| format!(r"\x{{{n:X}FFFE}}\x{{{n:X}FFFF}}")).collect();
    let literal =
        format!(r"(?:[^{excluded}{planes_end}\x{{E0000}}-\x{{E0FFF}}]|%[0-9A-Fa-f]{{2}})");
    Regex::new(&format!(r"\A(?:{literal}|{expression})*\z")).unwrap()
});

#[derive(Clone, Debug)]
enum Piece {
    Literal(&'static str),
    /// Operator, if any, then the modifiers of the variables.
    Expression(&'static str, Vec<&'static str>),
}

impl Piece {
    fn text(&self) -> String {
        match self {
            Self::Literal(text) => (*text).to_owned(),
            Self::Expression(operator, modifiers) => {
                let variables: Vec<_> =
                    modifiers.iter().map(|modifier| format!("v{modifier}")).collect();
                format!("{{{operator}{}}}", variables.join(","))
            }
        }
    }

    fn regex(&self) -> String {
        let Self::Expression(operator, modifiers) = self else {
            return regex::escape(&self.text());
        };
        let (first, separator, mut class) = match *operator {
            "" => ("", ",", r"A-Za-z0-9\-._~,".to_owned()),
            "+" => ("", ",", r"A-Za-z0-9\-._~!#$&'()*+,/:;=?@\[\]".to_owned()),
            "#" => ("#", ",", r"A-Za-z0-9\-._~!#$&'()*+,/:;=?@\[\]".to_owned()),
            "?" => (r"\?", "&", r"A-Za-z0-9\-._~,=".to_owned()),
            "." => (r"\.", r"\.", r"A-Za-z0-9\-._~,".to_owned()),
            "/" => ("/", "/", r"A-Za-z0-9\-._~,".to_owned()),
            other => (other, other, r"A-Za-z0-9\-._~,=".to_owned()),
        };
        if modifiers[0] == "*" {
            class.push('=');
        }
        let run = format!("(?:[{class}]|%[0-9A-Fa-f]{{2}})*");
        let more = if modifiers.contains(&"*") {
            format!("(?:{separator}{run})*")
        } else {
            format!("(?:{separator}{run}){{0,{}}}", modifiers.len() - 1)
        };
        format!("(?:{first}{run}{more})?")
    }
}

fn any_piece() -> impl Strategy<Value = Piece> {
    let operator = prop::sample::select(vec!["", "+", "#", ".", "/", ";", "?", "&"]);
    let modifier = prop::sample::select(vec!["", "", "", "*", ":3"]);
    prop_oneof![
        prop::sample::select(vec!["a", "/", "ab", "a/", ",", "?", "=", "%41", "é", "41", "#", "."])
            .prop_map(Piece::Literal),
        (operator, prop::collection::vec(modifier, 1..4))
            .prop_map(|(operator, modifiers)| Piece::Expression(operator, modifiers)),
    ]
}

/// Bits of topics that templates made by `any_piece` are likely to meet.
const CRUMBS: &[&str] = &[
    "", "a", "b", "ab", "/", "/a", "?", "?a=b", "&", ";", ",", ".", "#", "=", "%41", "%4", "%",
    "é", " ", "41", "*",
];

/// Writes a topic that follows the template for the most part, as `choices` say.
fn near_match(pieces: &[Piece], choices: &[u8]) -> String {
    let mut choices = choices.iter().copied().map(usize::from).cycle();
    let mut next = || choices.next().expect("there is a choice");
    let mut topic = String::new();
    for piece in pieces {
        match piece {
            Piece::Literal(_) if next() % 16 == 0 => {}
            Piece::Literal(text) => topic.push_str(text),
            Piece::Expression(..) if next() % 4 == 0 => {}
            Piece::Expression(operator, _) => {
                topic.push_str(operator.trim_matches('+'));
                for _ in 0..next() % 4 {
                    let times = if next() % 8 == 0 { 60 + next() % 10 } else { 1 };
                    topic.push_str(&CRUMBS[next() % CRUMBS.len()].repeat(times));
                }
            }
        }
    }
    if next() % 4 == 0 {
        let limit = next() % (topic.len() + 1);
        let place = (0..=limit).rfind(|&place| topic.is_char_boundary(place)).unwrap_or(0);
        topic.insert_str(place, CRUMBS[next() % CRUMBS.len()]);
    }
    topic
}

/// Bits of strings that are templates, or nearly so.
fn any_scrap() -> impl Strategy<Value = String> {
    prop_oneof![
        r#"[a{}+#./;?&=,*:0-9%A_ é"]"#,
        r"\{[+#./;?&=!]?[a%.,*:1]{0,5}\}",
        r"\{[+#./;?&]?[a1]{1,3}[*]?(,[a1]{1,3}[*]?){0,2}\}",
        "%41",
        r"[\u{FDD0}\u{FFF0}\u{1FFFE}\u{E0001}\u{E1000}\u{10FFFD}]",
        r"\PC",
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1500))]

    #[test]
    fn matches_as_the_regular_expression_does(
        pieces in prop::collection::vec(any_piece(), 1..6),
        choices in prop::collection::vec(prop::collection::vec(any::<u8>(), 1..40), 8),
    ) {
        let text: String = pieces.iter().map(Piece::text).collect();
        prop_assume!(text.contains('{'));
        let pattern: String = pieces.iter().map(Piece::regex).collect();
        let oracle = Regex::new(&format!(r"\A{pattern}\z")).unwrap();
        let template = template(&text).unwrap();
        for choices in choices {
            let topic = near_match(&pieces, &choices);
            if let Ok(topic) = Topic::parse(&topic) {
                let expected = oracle.is_match(topic.as_str()) || topic.as_str() == text;
                prop_assert_eq!(template.matches(&topic), expected, "{} {}", text, topic);
            }
        }
    }

    #[test]
    fn templates_are_what_the_grammar_says(
        text in prop::collection::vec(any_scrap(), 1..8).prop_map(|scraps| scraps.concat()),
    ) {
        if let Ok(name) = Topic::parse(&text) {
            let expected = text.contains('{') && GRAMMAR.is_match(&text);
            prop_assert_eq!(Template::parse(&name).is_some(), expected, "{}", text);
        }
    }
}

#[test]
fn near_matches_are_of_both_kinds() {
    let pieces = [
        Piece::Literal("a/"),
        Piece::Expression("/", vec!["", ""]),
        Piece::Literal("/"),
        Piece::Expression("?", vec!["*"]),
    ];
    let text: String = pieces.iter().map(Piece::text).collect();
    let template = template(&text).unwrap();
    let matching = (0..=255u8)
        .map(|n| near_match(&pieces, &[n, n / 3, n.wrapping_mul(7), 1, 5, n ^ 90]))
        .filter(|topic| template.matches(&Topic::parse(topic).unwrap()))
        .count();
    assert!((32..224).contains(&matching), "{matching} of 256");
}
