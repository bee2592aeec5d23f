//! Where in its file a wrong value stands.

use toml::de::{DeTable, DeValue};

use super::PlanError;

impl PlanError {
    /// The line (from 1) that the error is about, in the file that the plan was read from; the plan may stand in any table of it.
    pub fn line(&self, text: &str) -> Option<usize> {
        let offset = match self {
            PlanError::Malformed { line, .. } => return *line,
            PlanError::Field { field, .. } => {
                let document = DeTable::parse(text).ok()?;
                of_path(document.get_ref(), field)
            }
            PlanError::Fault { fault, field, .. } => {
                let document = DeTable::parse(text).ok()?;
                of_fault(document.get_ref(), fault, field)
            }
        }?;
        Some(line_at(text, offset))
    }

    /// `plan.toml, line 7: fault ...`.
    pub fn in_file(&self, file: &str, text: &str) -> String {
        match self.line(text) {
            Some(line) => format!("{file}, line {line}: {self}"),
            None => format!("{file}: {self}"),
        }
    }
}

/// Counted from 1.
pub(super) fn line_at(text: &str, offset: usize) -> usize {
    text.as_bytes().iter().take(offset).filter(|&&byte| byte == b'\n').count() + 1
}

/// `network.links[0].to`, in this table or in one within.
fn of_path(table: &DeTable<'_>, path: &str) -> Option<usize> {
    let mut steps = path.split(['.', '[']).filter(|step| !step.is_empty());
    let here = walk(table, steps.next()?, &mut steps);
    here.or_else(|| {
        table.values().filter_map(|value| value.get_ref().as_table()).find_map(|inner| of_path(inner, path))
    })
}

fn walk<'a>(table: &DeTable<'_>, name: &str, rest: &mut impl Iterator<Item = &'a str>) -> Option<usize> {
    let (key, value) = table.iter().find(|(key, _)| key.get_ref() == name)?;
    match (value.get_ref(), rest.next()) {
        (_, None) => Some(key.span().start),
        (DeValue::Table(inner), Some(next)) => walk(inner, next, rest),
        (DeValue::Array(items), Some(index)) => {
            let index: usize = index.trim_end_matches(']').parse().ok()?;
            let item = items.get(index)?;
            match (item.get_ref(), rest.next()) {
                (DeValue::Table(inner), Some(next)) => walk(inner, next, rest),
                _ => Some(item.span().start),
            }
        }
        _ => Some(key.span().start),
    }
}

/// The field of the fault of this id; the last such fault, as ids that are used twice are wrong the second time.
fn of_fault(table: &DeTable<'_>, id: &str, field: &str) -> Option<usize> {
    let faults =
        table.iter().find(|(key, _)| key.get_ref() == "faults").and_then(|(_, value)| value.get_ref().as_array());
    let has_id = |fault: &&DeTable<'_>| {
        fault.iter().any(|(key, value)| key.get_ref() == "id" && value.get_ref().as_str() == Some(id))
    };
    let fault = faults.and_then(|faults| {
        let tables = faults.iter().filter_map(|item| item.get_ref().as_table());
        tables.rev().find(has_id)
    });
    match fault {
        Some(fault) => of_key(fault, field.rsplit('.').next().unwrap_or(field)).or_else(|| of_key(fault, "id")),
        None => {
            table.values().filter_map(|value| value.get_ref().as_table()).find_map(|inner| of_fault(inner, id, field))
        }
    }
}

/// The first key of this name, however deep.
fn of_key(table: &DeTable<'_>, name: &str) -> Option<usize> {
    let here = table.iter().find(|(key, _)| key.get_ref() == name).map(|(key, _)| key.span().start);
    here.or_else(|| table.values().filter_map(|value| value.get_ref().as_table()).find_map(|inner| of_key(inner, name)))
}
