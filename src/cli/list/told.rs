//! What a watched list has told so far, and what of the next word is news. Pure.

use std::collections::{HashMap, HashSet};
use std::hash::{DefaultHasher, Hash, Hasher as _};

/// What is to be told of an object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum News {
    /// It is there, or has changed.
    Changed,
    /// It doesn't fit the filter any more; this is how it is now, and the last that is told of it.
    Left,
    /// It isn't there any more.
    Gone,
}

/// What has been told of each object, as a hash: there may be a hundred thousand of them.
#[derive(Debug, Default)]
pub(super) struct Told {
    told: HashMap<String, u64>,
    /// Objects of the listing that is under way.
    listed: HashSet<String>,
    /// The list ended before its last object: what the next listing has beyond it was left out on purpose.
    cut: bool,
    /// Known, and left out.
    silent: HashSet<String>,
}

impl Told {
    /// Notes what the list shows before it is watched.
    pub(super) fn shown(&mut self, name: &str, state: &impl Hash) {
        self.told.insert(name.to_owned(), hash(state));
    }

    /// The list has left objects out.
    pub(super) fn cut_off(&mut self) {
        self.cut = true;
    }

    /// A listing of everything begins.
    pub(super) fn begin(&mut self) {
        self.listed.clear();
    }

    /// An object of a listing.
    pub(super) fn listed(&mut self, name: &str, state: &impl Hash, fits: bool) -> Option<News> {
        self.listed.insert(name.to_owned());
        if self.cut && !self.told.contains_key(name) {
            self.silent.insert(name.to_owned());
            return None;
        }
        if self.silent.contains(name) { None } else { self.news(name, state, fits) }
    }

    /// A listing is over: who was told and isn't in it has gone meanwhile.
    pub(super) fn end(&mut self) -> Vec<String> {
        self.cut = false;
        let mut gone: Vec<String> = self.told.keys().filter(|name| !self.listed.contains(*name)).cloned().collect();
        gone.sort_unstable();
        for name in &gone {
            self.told.remove(name);
        }
        self.silent.retain(|name| self.listed.contains(name));
        self.listed = HashSet::new();
        gone
    }

    /// An object as it is now.
    pub(super) fn is_now(&mut self, name: &str, state: &impl Hash, fits: bool) -> Option<News> {
        // The first change of what was left out is news.
        self.silent.remove(name);
        self.news(name, state, fits)
    }

    fn news(&mut self, name: &str, state: &impl Hash, fits: bool) -> Option<News> {
        let state = hash(state);
        match (fits, self.told.get(name)) {
            (true, Some(before)) if *before == state => None,
            (true, _) => {
                self.told.insert(name.to_owned(), state);
                Some(News::Changed)
            }
            (false, Some(_)) => {
                self.told.remove(name);
                Some(News::Left)
            }
            (false, None) => None,
        }
    }

    /// An object is deleted.
    pub(super) fn gone(&mut self, name: &str) -> Option<News> {
        self.silent.remove(name);
        self.told.remove(name).map(|_| News::Gone)
    }
}

fn hash(state: &impl Hash) -> u64 {
    let mut hasher = DefaultHasher::new();
    state.hash(&mut hasher);
    hasher.finish()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(names: &[&str]) -> Told {
        let mut told = Told::default();
        names.iter().for_each(|name| told.shown(name, &"v1"));
        told
    }

    /// A listing of these; what is told of each, and who has gone.
    fn listing(told: &mut Told, objects: &[(&str, &str, bool)]) -> (Vec<Option<News>>, Vec<String>) {
        told.begin();
        let news = objects.iter().map(|(name, state, fits)| told.listed(name, state, *fits)).collect();
        (news, told.end())
    }

    #[test]
    fn what_the_list_has_shown_is_no_news_and_what_came_since_is() {
        let mut told = told(&["a", "b", "c", "d"]);
        let (news, gone) =
            listing(&mut told, &[("a", "v1", true), ("b", "v2", true), ("d", "v2", false), ("e", "v1", true)]);
        assert_eq!(news, [None, Some(News::Changed), Some(News::Left), Some(News::Changed)]);
        assert_eq!(gone, ["c"], "deleted between the list and the watch");
        let again = listing(&mut told, &[("a", "v1", true), ("b", "v2", true), ("e", "v1", true)]);
        assert_eq!(again, (vec![None, None, None], vec![]), "after a lost connection nothing is told twice");
    }

    #[test]
    fn leaving_and_going_are_told_once() {
        let mut told = told(&["a", "b"]);
        assert_eq!(told.is_now("a", &"v2", false), Some(News::Left));
        assert_eq!(told.is_now("a", &"v3", false), None);
        assert_eq!(told.gone("a"), None, "nobody is told of what they don't see");
        assert_eq!(told.is_now("a", &"v4", true), Some(News::Changed), "it is back");
        assert_eq!((told.gone("b"), told.gone("b")), (Some(News::Gone), None));
    }

    #[test]
    fn what_a_limit_has_left_out_is_told_when_it_changes() {
        let mut told = told(&["a"]);
        told.cut_off();
        let (news, gone) = listing(&mut told, &[("a", "v1", true), ("b", "v1", true)]);
        assert_eq!((news, gone), (vec![None, None], vec![]));
        assert_eq!(told.is_now("b", &"v2", true), Some(News::Changed));
    }
}
