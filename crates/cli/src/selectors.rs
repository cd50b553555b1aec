//! Selectors as people write them.

use tidings::Selector;

/// Says whether a topic looks like a pattern and is none.
pub(crate) fn is_misleading(topic: &str) -> bool {
    topic.contains(['*', '{', '}']) && matches!(Selector::parse(topic), Ok(Selector::Exact(_)))
}

/// Tells somebody who wrote such a topic what it selects.
pub(crate) fn told_misleading(topic: &str) -> String {
    format!(
        "`{topic}` selects the one topic of that name; patterns are `*` alone and URI templates such \
         as `orders/{{id}}`"
    )
}
