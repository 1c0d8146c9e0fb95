//! Finds which file calls functions of which other file. A call is resolved by its name and by what
//! is known about the type of its receiver.
//!
//! An ambiguous call, for which several files have a method of that name and the value's type is
//! not known, is not counted. Calls through a trait count as calls to the trait's file, not to the
//! files that implement it.

use std::collections::{BTreeMap, BTreeSet};

use syn::punctuated::Punctuated;
use syn::visit::{self, Visit};
use syn::{Block, Expr, ExprPath, Member, Pat, Stmt, Token};

use super::house::{ANY, Function, House, Names};
use super::source::Source;

/// Which functions of the second file the first one calls; files by their place among the sources.
pub type Calls = BTreeMap<(usize, usize), BTreeSet<String>>;

/// Returns the calls from file to file.
pub fn calls(house: &House, sources: &[Source]) -> Calls {
    let mut all = Calls::new();
    for function in &house.functions {
        let Some(body) = &function.body else { continue };
        let mut walk = Walk { house, sources, of: function, values: BTreeMap::new(), calls: &mut all };
        for (pattern, names) in &function.takes {
            walk.bind(pattern, names);
        }
        walk.block(body);
    }
    all
}

struct Walk<'a> {
    house: &'a House,
    sources: &'a [Source],
    of: &'a Function,
    /// What is known of each local value.
    values: BTreeMap<String, Names>,
    calls: &'a mut Calls,
}

impl Walk<'_> {
    /// Gives the names in a pattern the types that its value may have.
    fn bind(&mut self, pattern: &Pat, names: &Names) {
        match pattern {
            Pat::Ident(name) => {
                self.values.insert(name.ident.to_string(), names.clone());
            }
            Pat::Struct(of) => {
                let owner = last(&of.path).map_or_else(|| names.clone(), |name| self.or_owner(name));
                for field in &of.fields {
                    let Member::Named(name) = &field.member else { continue };
                    let known = self.house.field(&owner, &name.to_string());
                    self.bind(&field.pat, &known);
                }
            }
            Pat::TupleStruct(of) => {
                let variant = last(&of.path).map_or_else(Names::new, |name| self.or_owner(name));
                for (place, part) in of.elems.iter().enumerate() {
                    let known = self.house.field(&variant, &place.to_string());
                    self.bind(part, if known.is_empty() { names } else { &known });
                }
            }
            Pat::Tuple(of) => of.elems.iter().for_each(|part| self.bind(part, names)),
            Pat::Slice(of) => of.elems.iter().for_each(|part| self.bind(part, names)),
            Pat::Or(of) => of.cases.iter().for_each(|part| self.bind(part, names)),
            Pat::Reference(of) => self.bind(&of.pat, names),
            Pat::Guard(of) => {
                self.bind(&of.pat, names);
                self.expression(&of.guard);
            }
            Pat::Paren(of) => self.bind(&of.pat, names),
            Pat::Type(of) => {
                struct Path(Names);
                impl<'a> Visit<'a> for Path {
                    fn visit_path(&mut self, path: &'a syn::Path) {
                        self.0.extend(last(path));
                        visit::visit_path(self, path);
                    }
                }
                let mut path = Path(names.clone());
                path.visit_type(&of.ty);
                self.bind(&of.pat, &path.0);
            }
            _ => {}
        }
    }

    fn or_owner(&self, name: String) -> Names {
        match (name.as_str(), &self.of.owner) {
            ("Self", Some(owner)) => BTreeSet::from([owner.clone()]),
            _ => BTreeSet::from([name]),
        }
    }

    fn block(&mut self, block: &Block) -> Names {
        let mut given = Names::new();
        for statement in &block.stmts {
            given = Names::new();
            match statement {
                Stmt::Local(local) => {
                    let names = local.init.as_ref().map_or_else(Names::new, |init| {
                        if let Some((_, diverge)) = &init.diverge {
                            self.expression(diverge);
                        }
                        self.expression(&init.expr)
                    });
                    self.bind(&local.pat, &names);
                }
                Stmt::Expr(expression, _) => given = self.expression(expression),
                Stmt::Macro(of) => self.tokens(&of.mac),
                Stmt::Item(_) => {}
            }
        }
        given
    }

    /// Walks through an expression. Returns the types that its value may have.
    fn expression(&mut self, of: &Expr) -> Names {
        match of {
            Expr::Path(path) => self.path(path),
            Expr::MethodCall(call) => {
                let receiver = self.expression(&call.receiver);
                for argument in &call.args {
                    if let Expr::Closure(closure) = argument {
                        closure.inputs.iter().for_each(|input| self.bind(input, &receiver));
                    }
                    self.expression(argument);
                }
                self.method(&call.method.to_string(), receiver)
            }
            Expr::Call(call) => {
                call.args.iter().for_each(|argument| drop(self.expression(argument)));
                self.expression(&call.func)
            }
            Expr::Field(field) => {
                let names = self.expression(&field.base);
                let name = match &field.member {
                    Member::Named(name) => name.to_string(),
                    Member::Unnamed(place) => place.index.to_string(),
                };
                let known = self.house.field(&names, &name);
                if known.is_empty() || known.contains(ANY) {
                    known.union(&names).cloned().collect()
                } else {
                    known
                }
            }
            Expr::Struct(of) => {
                of.fields.iter().for_each(|field| drop(self.expression(&field.expr)));
                of.rest.iter().for_each(|rest| drop(self.expression(rest)));
                last(&of.path).map_or_else(Names::new, |name| self.or_owner(name))
            }
            Expr::Let(of) => {
                let names = self.expression(&of.expr);
                self.bind(&of.pat, &names);
                Names::new()
            }
            Expr::Match(of) => {
                let names = self.expression(&of.expr);
                let mut given = Names::new();
                for arm in &of.arms {
                    self.bind(&arm.pat, &names);
                    given.extend(self.expression(&arm.body));
                }
                given
            }
            Expr::ForLoop(of) => {
                let names = self.expression(&of.expr);
                self.bind(&of.pat, &names);
                self.block(&of.body)
            }
            Expr::If(of) => {
                self.expression(&of.cond);
                let mut given = self.block(&of.then_branch);
                given.extend(of.else_branch.iter().flat_map(|(_, other)| self.expression(other)));
                given
            }
            Expr::Block(of) => self.block(&of.block),
            Expr::Unsafe(of) => self.block(&of.block),
            Expr::Closure(of) => self.expression(&of.body),
            Expr::Macro(of) => {
                self.tokens(&of.mac);
                Names::new()
            }
            other => self.parts(other),
        }
    }

    /// Walks through all parts of an expression. Returns the types that they may have.
    fn parts(&mut self, of: &Expr) -> Names {
        struct Parts<'b, 'a>(&'b mut Walk<'a>, Names);
        impl<'c> Visit<'c> for Parts<'_, '_> {
            fn visit_expr(&mut self, part: &'c Expr) {
                self.1.extend(self.0.expression(part));
            }
            fn visit_block(&mut self, block: &'c Block) {
                self.1.extend(self.0.block(block));
            }
        }
        let mut parts = Parts(self, Names::new());
        visit::visit_expr(&mut parts, of);
        parts.1
    }

    /// Reads the arguments of a macro that are expressions.
    fn tokens(&mut self, of: &syn::Macro) {
        if let Ok(arguments) = of.parse_body_with(Punctuated::<Expr, Token![,]>::parse_terminated) {
            arguments.iter().for_each(|argument| drop(self.expression(argument)));
        }
    }

    /// Returns the types that a value, a constant or a function may have, by its path.
    fn path(&mut self, of: &ExprPath) -> Names {
        let names: Vec<String> = of.path.segments.iter().map(|segment| segment.ident.to_string()).collect();
        match names.as_slice() {
            [name] if name == "self" => self.of.owner.iter().cloned().collect(),
            [name] => match self.values.get(name) {
                Some(known) => known.clone(),
                None => self.function(None, name),
            },
            [.., owner, name] => {
                let owner = self.or_owner(owner.clone()).pop_first().unwrap_or_default();
                let given = self.function(Some(&owner), name);
                if given.is_empty() { BTreeSet::from([owner]) } else { given }
            }
            [] => Names::new(),
        }
    }

    /// Returns the types that a function may return: a function of a type, of a module, or of this
    /// file and its imports.
    fn function(&mut self, of: Option<&str>, name: &str) -> Names {
        let here = self.of.file;
        let found: Vec<usize> = match of {
            Some(of) => {
                let owners = self.house.closure(&BTreeSet::from([of.to_owned()]));
                let is_its = |function: &Function| match &function.owner {
                    Some(owner) => owners.contains(owner),
                    None => self.sources[function.file].module() == of,
                };
                self.house.named(name).filter(|(_, function)| is_its(function)).map(|(at, _)| at).collect()
            }
            None => {
                let free = || self.house.named(name).filter(|(_, function)| function.owner.is_none());
                let local: Vec<usize> = free().filter(|(_, of)| of.file == here).map(|(at, _)| at).collect();
                if local.is_empty() { free().map(|(at, _)| at).collect() } else { local }
            }
        };
        self.called(&found, Names::new())
    }

    fn method(&mut self, name: &str, receiver: Names) -> Names {
        let owners = self.house.closure(&receiver);
        let all: Vec<(usize, &Function)> =
            self.house.named(name).filter(|(_, function)| function.is_method).collect();
        let is_its = |function: &&(usize, &Function)| {
            function.1.owner.as_ref().is_some_and(|owner| owners.contains(owner))
        };
        let its: Vec<usize> = all.iter().filter(is_its).map(|(at, _)| *at).collect();
        let its =
            if its.is_empty() && receiver.is_empty() { all.iter().map(|(at, _)| *at).collect() } else { its };
        self.called(&its, receiver)
    }

    /// Counts a call, if all functions that it may call are in one other file. Returns the types
    /// that it may return.
    fn called(&mut self, found: &[usize], receiver: Names) -> Names {
        let functions = || found.iter().map(|at| &self.house.functions[*at]);
        let files: BTreeSet<usize> = functions().map(|function| function.file).collect();
        let gives: Names = functions().flat_map(|function| function.gives.iter().cloned()).collect();
        if let (Some(file), 1) = (files.first(), files.len())
            && *file != self.of.file
        {
            let names = functions().map(|function| function.name.clone());
            self.calls.entry((self.of.file, *file)).or_default().extend(names);
        }
        if found.is_empty() || gives.contains(ANY) {
            receiver.union(&gives).cloned().collect()
        } else {
            gives
        }
    }
}

fn last(path: &syn::Path) -> Option<String> {
    path.segments.last().map(|segment| segment.ident.to_string())
}
