//! Which file may import which, read from the sources: what is shared lies below those who share it, and nothing imports upward.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use syn::buffer::{Cursor, TokenBuffer};
use syn::visit::{self, Visit};
use syn::{Attribute, ItemFn, ItemImpl, ItemMod, ItemUse, Macro, UseTree, Visibility};

/// The rooms of `shared/src`, from the bottom to the top. A file imports from its own room and from layers below, so what stands side by
/// side here does not know each other.
const LAYERS: [&[&str]; 9] = [
    &["domain", "clock", "random"],
    &["config", "error"],
    &["connectors", "telemetry", "tries"],
    &["outside"],
    &["bus", "cluster", "database", "segments", "vault"],
    &["queue"],
    &["context"],
    &["http"],
    &["runtime"],
];

/// Files of `functions/` that are made from the list of all functions, and may name what stands in it.
const MADE_FROM_THE_LIST: [&str; 3] = ["auth_php", "contract", "s3_php"];

/// A module by its path in its crate: `["workers", "billing"]`.
type Module = Vec<String>;

/// What a file's product code says. What is compiled for tests only does not count.
#[derive(Default)]
struct Said {
    /// The module that is being read.
    within: Module,
    /// The paths that are reached by `crate::` or `super::`, from the crate's root on.
    paths: BTreeSet<Module>,
    /// The names of what is called or otherwise named.
    names: BTreeSet<String>,
}

impl Said {
    fn path(&mut self, path: &[String]) {
        self.names.extend(path.last().cloned());
        let ups = path.iter().take_while(|name| *name == "super").count();
        match path.first().map(String::as_str) {
            Some("crate") => {
                self.paths.insert(path[1..].to_vec());
            }
            Some("super") => {
                let mut absolute = self.within.clone();
                absolute.truncate(absolute.len().saturating_sub(ups));
                absolute.extend_from_slice(&path[ups..]);
                self.paths.insert(absolute);
            }
            _ => {}
        }
    }

    fn tree(&mut self, before: &[String], tree: &UseTree) {
        let with = |name: &syn::Ident| [before, &[name.to_string()]].concat();
        match tree {
            UseTree::Path(path) => self.tree(&with(&path.ident), &path.tree),
            UseTree::Name(name) => self.path(&with(&name.ident)),
            UseTree::Rename(rename) => self.path(&with(&rename.ident)),
            UseTree::Glob(_) => self.path(before),
            UseTree::Group(group) => {
                for tree in &group.items {
                    self.tree(before, tree);
                }
            }
        }
    }

    /// What a macro is given may be of any form: its paths are names with colons between.
    fn tokens(&mut self, mut cursor: Cursor<'_>) {
        let mut path: Module = Vec::new();
        while !cursor.eof() {
            if let Some((name, next)) = cursor.ident() {
                path.push(name.to_string());
                cursor = next;
                let colons = cursor.punct().filter(|(colon, _)| colon.as_char() == ':');
                let colons = colons.and_then(|(_, next)| next.punct());
                if let Some((_, next)) = colons.filter(|(colon, _)| colon.as_char() == ':') {
                    cursor = next;
                    continue;
                }
            } else if let Some((inner, _, _, next)) = cursor.any_group() {
                self.tokens(inner);
                cursor = next;
            } else if let Some((_, next)) = cursor.token_tree() {
                cursor = next;
            }
            self.path(&std::mem::take(&mut path));
        }
    }
}

fn is_for_tests(attributes: &[Attribute]) -> bool {
    let is_test = |attribute: &Attribute| {
        attribute.path().is_ident("test")
            || attribute.path().is_ident("cfg")
                && attribute
                    .parse_args::<syn::Path>()
                    .is_ok_and(|path| path.is_ident("test"))
    };
    attributes.iter().any(is_test)
}

impl<'ast> Visit<'ast> for Said {
    fn visit_item_mod(&mut self, item: &'ast ItemMod) {
        if is_for_tests(&item.attrs) {
            return;
        }
        self.within.push(item.ident.to_string());
        visit::visit_item_mod(self, item);
        self.within.pop();
    }

    fn visit_item_fn(&mut self, item: &'ast ItemFn) {
        if !is_for_tests(&item.attrs) {
            visit::visit_item_fn(self, item);
        }
    }

    fn visit_item_impl(&mut self, item: &'ast ItemImpl) {
        if !is_for_tests(&item.attrs) {
            visit::visit_item_impl(self, item);
        }
    }

    fn visit_item_use(&mut self, item: &'ast ItemUse) {
        if !is_for_tests(&item.attrs) {
            self.tree(&[], &item.tree);
        }
    }

    fn visit_path(&mut self, path: &'ast syn::Path) {
        let names = path
            .segments
            .iter()
            .map(|segment| segment.ident.to_string());
        self.path(&names.collect::<Module>());
        visit::visit_path(self, path);
    }

    fn visit_expr_method_call(&mut self, call: &'ast syn::ExprMethodCall) {
        self.names.insert(call.method.to_string());
        visit::visit_expr_method_call(self, call);
    }

    // The crate's own macros stand in its root, and know everybody there: only what they are given counts.
    fn visit_macro(&mut self, called: &'ast Macro) {
        let tokens = TokenBuffer::new2(called.tokens.clone());
        self.tokens(tokens.begin());
    }

    // `pub(crate)` is no import.
    fn visit_visibility(&mut self, _: &'ast Visibility) {}
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// The source files under a folder, by the modules that they are.
fn sources(folder: &str) -> BTreeMap<Module, Said> {
    let top = root().join(folder);
    let mut found = BTreeMap::new();
    let mut folders = vec![top.clone()];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(&folder).expect("a folder") {
            let file = entry.expect("an entry").path();
            if file.is_dir() {
                folders.push(file);
                continue;
            }
            if file.extension().is_none_or(|extension| extension != "rs") {
                continue;
            }
            let inside = file.strip_prefix(&top).expect("under the folder");
            let mut module: Module = inside
                .with_extension("")
                .iter()
                .map(|name| name.to_string_lossy().into_owned())
                .collect();
            if module.last().is_some_and(|name| name == "mod") || module == ["lib"] {
                module.pop();
            }
            let text = std::fs::read_to_string(&file).expect("text");
            let parsed = syn::parse_file(&text).expect("a source file");
            let mut said = Said {
                within: module.clone(),
                ..Said::default()
            };
            said.visit_file(&parsed);
            found.insert(module, said);
        }
    }
    assert!(found.len() > 20, "{folder}: {}", found.len());
    found
}

/// What each module imports of the others: the innermost module that a path names. The root is the list of the others.
fn imports(sources: &BTreeMap<Module, Said>) -> BTreeMap<&Module, BTreeSet<&Module>> {
    let of = |path: &Module| {
        let mut prefixes = (0..=path.len()).rev().map(|length| &path[..length]);
        prefixes.find_map(|prefix| sources.get_key_value(prefix).map(|(module, _)| module))
    };
    let entries = sources.iter().map(|(module, said)| {
        let imported = said.paths.iter().filter_map(of);
        (
            module,
            imported.filter(|imported| *imported != module).collect(),
        )
    });
    entries.collect()
}

/// A way along imports from a module back to itself.
fn circle<'a>(imports: &BTreeMap<&'a Module, BTreeSet<&'a Module>>) -> Option<Vec<&'a Module>> {
    let mut left = imports.clone();
    // Who imports nobody that is left stands in no circle.
    while let Some(module) = left
        .iter()
        .find(|(_, imported)| imported.iter().all(|imported| !left.contains_key(imported)))
        .map(|(module, _)| *module)
    {
        left.remove(module);
    }
    let mut way = vec![*left.keys().next()?];
    loop {
        let imported = &left[way[way.len() - 1]];
        let next = imported
            .iter()
            .find(|imported| left.contains_key(*imported));
        let next = *next.expect("whoever is left imports somebody who is");
        if let Some(first) = way.iter().position(|module| *module == next) {
            return Some(way.split_off(first));
        }
        way.push(next);
    }
}

#[test]
fn no_file_of_the_functions_imports_in_a_circle() {
    let sources = sources("functions");
    let mut imports = imports(&sources);
    let list = Module::new();
    imports.retain(|module, _| **module != list);
    assert_eq!(circle(&imports), None);
}

#[test]
fn what_actions_share_stands_beside_their_folders() {
    let sources = sources("functions");
    let is_file = |module: &Module| {
        let file = root()
            .join("functions")
            .join(format!("{}.rs", module.join("/")));
        file.is_file()
    };
    let mut wrong = Vec::new();
    for (module, imported) in imports(&sources) {
        let is_made_from_the_list = MADE_FROM_THE_LIST.contains(&module.join("::").as_str());
        for imported in imported {
            let is_shared = is_file(imported) || (imported.is_empty() && is_made_from_the_list);
            if !module.is_empty() && !is_shared && module != &["contract"] {
                wrong.push(format!(
                    "{} imports {}",
                    module.join("::"),
                    imported.join("::")
                ));
            }
        }
    }
    assert_eq!(wrong, Vec::<String>::new());
}

#[test]
fn the_shared_crate_imports_nothing_from_a_layer_above() {
    let sources = sources("shared/src");
    let layer = |module: &Module| {
        let room = module.first()?;
        LAYERS
            .iter()
            .position(|rooms| rooms.contains(&room.as_str()))
    };
    let mut wrong = Vec::new();
    for (module, imported) in imports(&sources) {
        let Some(own) = layer(module) else {
            assert!(
                module.is_empty(),
                "{} stands in no layer",
                module.join("::")
            );
            continue;
        };
        for imported in imported
            .iter()
            .filter(|imported| imported.first() != module.first())
        {
            if layer(imported).is_none_or(|layer| layer >= own) {
                wrong.push(format!(
                    "{} imports {}",
                    module.join("::"),
                    imported.join("::")
                ));
            }
        }
    }
    assert_eq!(wrong, Vec::<String>::new());
}

#[test]
fn keys_stop_and_work_again_through_suspension_alone() {
    let mut callers: BTreeSet<String> = BTreeSet::new();
    for folder in ["functions", "shared/src"] {
        for (module, said) in sources(folder) {
            if said.names.contains("set_suspended") {
                callers.insert(format!("{folder} {}", module.join("::")));
            }
        }
    }
    assert_eq!(callers, BTreeSet::from(["functions suspension".to_owned()]));
}

#[test]
fn imports_are_found_wherever_they_are_written() {
    let text = r#"
        use crate::one::{self, Deep};
        use super::two;
        fn product() -> crate::three::Shown {
            let _ = tracing::field::display(crate::four::shown());
            futures::try_join!(crate::five::asked(cluster.set_suspended(true)))
        }
        pub(crate) mod inner { use super::super::six::Seven; }
        #[cfg(test)]
        mod tests { use crate::not_in_the_product; }
        #[test]
        fn neither() { crate::not_this_either(); }
    "#;
    let mut said = Said {
        within: vec!["workers".into(), "billing".into()],
        ..Said::default()
    };
    said.visit_file(&syn::parse_file(text).expect("a source file"));
    let paths: Vec<String> = said.paths.iter().map(|path| path.join("::")).collect();
    let expected = [
        "five::asked",
        "four::shown",
        "one::Deep",
        "one::self",
        "three::Shown",
        "workers::six::Seven",
        "workers::two",
    ];
    assert_eq!(paths, expected);
    assert!(said.names.contains("set_suspended"));
}

#[test]
fn a_circle_is_found_behind_those_who_stand_in_none() {
    let module = |name: &str| vec![name.to_owned()];
    let (a, b, c, d) = (module("a"), module("b"), module("c"), module("d"));
    let mut imports = BTreeMap::from([
        (&a, BTreeSet::from([&b, &d])),
        (&b, BTreeSet::from([&c])),
        (&c, BTreeSet::from([&b])),
        (&d, BTreeSet::new()),
    ]);
    assert_eq!(circle(&imports), Some(vec![&b, &c]));
    imports.insert(&c, BTreeSet::from([&d]));
    assert_eq!(circle(&imports), None);
}
