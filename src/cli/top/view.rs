//! What of the rates is on the screen, and how keys change it.

use std::collections::{BTreeMap, VecDeque};

use super::{
    keys::Key,
    rates::Rates,
    table::{Order, Subject, Table, tables},
};

/// So many intervals are remembered of a row.
const REMEMBERED: usize = 60;

/// A row's rates, the latest last.
type History = BTreeMap<(Subject, String), VecDeque<f64>>;

/// What is shown.
#[derive(Debug, Default)]
pub struct View {
    pub order: Order,
    /// `None`: all of them.
    pub subject: Option<Subject>,
    pub is_paused: bool,
    /// The first line that is shown of those that there are.
    pub scroll: usize,
    /// How many lines there was room for.
    pub page: usize,
    history: History,
}

/// What a key asks for beyond the view.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wish {
    Nothing,
    /// All is drawn again.
    Clear,
    Suspend,
    Quit,
}

impl View {
    /// Does what the key is for.
    pub fn typed(&mut self, key: Key) -> Wish {
        match key {
            Key::Char('q' | 'Q') | Key::CtrlC => return Wish::Quit,
            Key::CtrlZ => return Wish::Suspend,
            Key::CtrlL => return Wish::Clear,
            Key::Char('p' | ' ') => self.is_paused = !self.is_paused,
            Key::Char('s') => {
                self.order = match self.order {
                    Order::Rate => Order::Time,
                    Order::Time => Order::Name,
                    Order::Name => Order::Rate,
                };
            }
            Key::Char('a') => self.look_at(None),
            Key::Char('v') => self.look_at(Some(Subject::VCpus)),
            Key::Char('d') => self.look_at(Some(Subject::Devices)),
            Key::Char('r') => self.look_at(Some(Subject::Reasons)),
            Key::Up | Key::Char('k') => self.scroll = self.scroll.saturating_sub(1),
            Key::Down | Key::Char('j') => self.scroll = self.scroll.saturating_add(1),
            Key::PageUp => self.scroll = self.scroll.saturating_sub(self.page.max(1)),
            Key::PageDown => self.scroll = self.scroll.saturating_add(self.page.max(1)),
            Key::Home => self.scroll = 0,
            Key::End => self.scroll = usize::MAX,
            Key::Char(_) => {}
        }
        Wish::Nothing
    }

    fn look_at(&mut self, subject: Option<Subject>) {
        self.subject = subject;
        self.scroll = 0;
    }

    /// Remembers the rates of each row that there is, and forgets the others'.
    pub fn remember(&mut self, rates: &Rates) {
        let mut before = std::mem::take(&mut self.history);
        for table in tables(rates, Order::Name) {
            for row in &table.rows {
                let key = (table.subject, row.cells[0].clone());
                let mut history = before.remove(&key).unwrap_or_default();
                history.push_back(row.rate);
                if history.len() > REMEMBERED {
                    history.pop_front();
                }
                self.history.insert(key, history);
            }
        }
    }

    /// The tables that are looked at.
    pub fn tables(&self, rates: &Rates) -> Vec<Table> {
        let mut tables = tables(rates, self.order);
        tables.retain(|table| self.subject.is_none_or(|subject| table.subject == subject));
        tables
    }

    /// The rates of a row, the latest first.
    pub fn history(&self, subject: Subject, name: &str) -> impl Iterator<Item = f64> {
        self.history.get(&(subject, name.to_owned())).into_iter().flatten().rev().copied()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::top::rates::tests::sample;

    #[test]
    fn keys_change_what_is_shown() {
        let mut view = View::default();
        let rates = Rates::between(&sample(1.0, 1), &sample(2.0, 2));
        assert_eq!(view.tables(&rates).len(), 3);
        assert_eq!(view.typed(Key::Char('d')), Wish::Nothing);
        assert_eq!(view.tables(&rates).len(), 1);
        view.typed(Key::Char('s'));
        view.typed(Key::Char('s'));
        assert_eq!(view.tables(&rates)[0].rows[0].cells[0], "com1");
        assert_eq!(view.order, Order::Name);
        view.typed(Key::End);
        view.typed(Key::Down);
        view.typed(Key::PageUp);
        assert!(view.scroll > 1000);
        view.typed(Key::Char('a'));
        assert_eq!((view.scroll, view.subject), (0, None));
        view.typed(Key::Char(' '));
        assert!(view.is_paused);
        assert_eq!(view.typed(Key::Char('?')), Wish::Nothing);
        assert_eq!(view.typed(Key::CtrlC), Wish::Quit);
    }

    #[test]
    fn so_much_is_remembered_of_the_rows_that_are_there() {
        let mut view = View::default();
        for n in 1..=100 {
            view.remember(&Rates::between(&sample(0.0, 0), &sample(1.0, n)));
        }
        let rates: Vec<_> = view.history(Subject::Devices, "com1").collect();
        assert_eq!((rates.len(), rates[0], rates[59]), (60, 1000.0, 410.0));
        view.remember(&Rates::default());
        assert_eq!(view.history(Subject::Devices, "com1").count(), 0);
    }
}
