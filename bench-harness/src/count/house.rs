//! The definitions in the sources: functions, the types that they belong to, and the types of
//! values.
//!
//! A type is known by its last name, and a value by all names of types in its declaration:
//! `Option<(Ref<'k, Task>, &Me)>` is `Option`, `Ref`, `Task` and `Me`. A type parameter stands for
//! the traits that bound it.

use std::collections::{BTreeMap, BTreeSet};

use syn::parse::{Parse, ParseStream};
use syn::spanned::Spanned;
use syn::visit::{self, Visit};
use syn::{
    Block, FnArg, GenericParam, Generics, ImplItem, Item, ReturnType, Signature, Token, TraitItem, Type,
    TypeParamBound, parse_quote,
};

use super::source::Source;

/// Names of types.
pub type Names = BTreeSet<String>;

/// Stands for what a type parameter without a bound is.
pub const ANY: &str = "?";

/// A function, or a method.
pub struct Function {
    /// Place of its file among the sources.
    pub file: usize,
    pub name: String,
    /// The type or trait that it is a method of.
    pub owner: Option<String>,
    /// Whether it has a receiver.
    pub is_method: bool,
    /// Lines from the first of its signature to the last of its body.
    pub length: usize,
    pub takes: Vec<(syn::Pat, Names)>,
    pub gives: Names,
    /// A method of a trait may have none.
    pub body: Option<Block>,
}

/// The items, by name.
#[derive(Default)]
pub struct House {
    pub functions: Vec<Function>,
    /// Names of a field, or of a variant's place, by type or variant.
    fields: BTreeMap<(String, String), Names>,
    /// What a type dereferences to, and the traits that it has.
    leads: BTreeMap<String, Names>,
    aliases: BTreeMap<String, Names>,
    by_name: BTreeMap<String, Vec<usize>>,
}

/// Type parameters, and what they stand for.
#[derive(Clone, Default)]
struct Scope {
    parameters: BTreeMap<String, Names>,
}

impl Scope {
    fn with(&self, generics: &Generics) -> Scope {
        let mut inner = self.clone();
        for parameter in &generics.params {
            if let GenericParam::Type(parameter) = parameter {
                let bounds = bounds(parameter.bounds.iter());
                inner.parameters.insert(parameter.ident.to_string(), or_any(bounds));
            }
        }
        for predicate in generics.where_clause.iter().flat_map(|clause| &clause.predicates) {
            if let syn::WherePredicate::Type(predicate) = predicate
                && let Some(name) = head(&predicate.bounded_ty)
            {
                let bounds = bounds(predicate.bounds.iter());
                inner.parameters.entry(name).or_default().extend(bounds);
            }
        }
        inner
    }

    fn with_self(&self, owner: &str) -> Scope {
        let mut inner = self.clone();
        inner.parameters.insert("Self".to_owned(), BTreeSet::from([owner.to_owned()]));
        inner
    }

    /// Returns all names in a type.
    fn names(&self, of: &Type) -> Names {
        struct Walk(Names);
        impl<'a> Visit<'a> for Walk {
            fn visit_path(&mut self, path: &'a syn::Path) {
                self.0.extend(path.segments.last().map(|segment| segment.ident.to_string()));
                visit::visit_path(self, path);
            }
        }
        let mut walk = Walk(Names::new());
        walk.visit_type(of);
        let stand_for = |name: String| match self.parameters.get(&name) {
            Some(names) => names.clone(),
            None => BTreeSet::from([name]),
        };
        walk.0.into_iter().flat_map(stand_for).collect()
    }
}

fn or_any(names: Names) -> Names {
    if names.is_empty() { BTreeSet::from([ANY.to_owned()]) } else { names }
}

fn bounds<'a>(bounds: impl Iterator<Item = &'a TypeParamBound>) -> Names {
    let traits = bounds.filter_map(|bound| match bound {
        TypeParamBound::Trait(bound) => bound.path.segments.last(),
        _ => None,
    });
    traits.map(|segment| segment.ident.to_string()).filter(|name| name != "Sized").collect()
}

/// Returns the last name of a type's path, through references.
fn head(of: &Type) -> Option<String> {
    match of {
        Type::Path(path) => path.path.segments.last().map(|segment| segment.ident.to_string()),
        Type::Reference(to) => head(&to.elem),
        Type::Paren(inner) => head(&inner.elem),
        Type::Group(inner) => head(&inner.elem),
        _ => None,
    }
}

/// What `methods!` defines: `Type: fn name(self) -> Result = body; …`.
struct Rows {
    of: Type,
    methods: Vec<(Signature, Block, proc_macro2::Span)>,
}

impl Parse for Rows {
    fn parse(input: ParseStream<'_>) -> syn::Result<Rows> {
        let of = input.parse()?;
        input.parse::<Token![:]>()?;
        let mut methods = Vec::new();
        while !input.is_empty() {
            input.call(syn::Attribute::parse_outer)?;
            let signature = input.parse()?;
            input.parse::<Token![=]>()?;
            let body: syn::Expr = input.parse()?;
            methods.push((signature, parse_quote!({ #body }), body.span()));
            input.parse::<Token![;]>()?;
        }
        Ok(Rows { of, methods })
    }
}

impl House {
    pub fn of(sources: &[Source]) -> House {
        let mut house = House::default();
        for (file, source) in sources.iter().enumerate() {
            house.take_items(file, &source.file.items);
        }
        for (at, function) in house.functions.iter().enumerate() {
            house.by_name.entry(function.name.clone()).or_default().push(at);
        }
        house
    }

    /// Returns the functions with this name, each with its index.
    pub fn named(&self, name: &str) -> impl Iterator<Item = (usize, &Function)> {
        let places = self.by_name.get(name).into_iter().flatten();
        places.map(|at| (*at, &self.functions[*at]))
    }

    /// Returns all types and traits that have methods.
    pub fn owners(&self) -> Names {
        self.functions.iter().filter_map(|function| function.owner.clone()).collect()
    }

    /// Returns these types, the types to which they dereference, and the traits of all these.
    pub fn closure(&self, of: &Names) -> Names {
        let mut all = Names::new();
        let mut next: Vec<String> = of.iter().cloned().collect();
        while let Some(name) = next.pop() {
            if all.contains(&name) {
                continue;
            }
            next.extend(self.leads.get(&name).into_iter().flatten().cloned());
            next.extend(self.aliases.get(&name).into_iter().flatten().cloned());
            all.insert(name);
        }
        all
    }

    /// Returns the names of a field of one of these types.
    pub fn field(&self, of: &Names, field: &str) -> Names {
        let owners = self.closure(of);
        let known = owners.iter().filter_map(|owner| self.fields.get(&(owner.clone(), field.to_owned())));
        known.flatten().cloned().collect()
    }

    /// Reads the definition of a context in `kern/core/src/rooms.rs`: `Name: leads To also Here`. A
    /// context dereferences to `Cx`.
    fn take_room(&mut self, file: usize, tokens: &proc_macro2::TokenStream) {
        let mut words = tokens.clone().into_iter().filter_map(|token| match token {
            proc_macro2::TokenTree::Ident(word) => Some(word.to_string()),
            _ => None,
        });
        let Some(owner) = words.next() else { return };
        self.leads.entry(owner.clone()).or_default().insert("Cx".to_owned());
        while let (Some(name), Some(to)) = (words.next(), words.next()) {
            self.functions.push(Function {
                file,
                name,
                owner: Some(owner.clone()),
                is_method: true,
                length: 1,
                takes: Vec::new(),
                gives: BTreeSet::from([to]),
                body: None,
            });
        }
    }

    /// Reads the rows of `kern/base/src/methods.rs`.
    fn take_methods(&mut self, file: usize, of: &syn::Macro) {
        let rows: Rows = of.parse_body().expect("rows as `kern/base/src/methods.rs` takes them");
        let Some(owner) = head(&rows.of) else { return };
        let scope = Scope::default().with_self(&owner);
        for (signature, body, whole) in &rows.methods {
            self.take_function(file, Some(&owner), &scope, signature, Some(body), *whole);
        }
    }

    fn take_items(&mut self, file: usize, items: &[Item]) {
        items.iter().for_each(|item| self.take(file, item));
    }

    fn take(&mut self, file: usize, item: &Item) {
        let all = Scope::default();
        match item {
            Item::Fn(function) => {
                self.take_function(file, None, &all, &function.sig, Some(&function.block), function.span());
            }
            Item::Impl(of) => self.take_impl(file, of),
            Item::Trait(of) => self.take_trait(file, of),
            Item::Mod(module) => {
                module.content.iter().for_each(|(_, items)| self.take_items(file, items));
            }
            Item::Struct(of) => self.take_fields(&of.ident.to_string(), &all.with(&of.generics), &of.fields),
            Item::Enum(of) => {
                let scope = all.with(&of.generics);
                of.variants.iter().for_each(|variant| {
                    self.take_fields(&variant.ident.to_string(), &scope, &variant.fields)
                });
            }
            Item::Type(alias) => {
                let names = all.with(&alias.generics).names(&alias.ty);
                self.aliases.entry(alias.ident.to_string()).or_default().extend(names);
            }
            Item::Macro(of) if of.mac.path.is_ident("room") => self.take_room(file, &of.mac.tokens),
            Item::Macro(of) if of.mac.path.is_ident("methods") => self.take_methods(file, &of.mac),
            _ => {}
        }
    }

    fn take_fields(&mut self, owner: &str, scope: &Scope, fields: &syn::Fields) {
        let scope = scope.with_self(owner);
        for (place, field) in fields.iter().enumerate() {
            let name = field.ident.as_ref().map_or_else(|| place.to_string(), ToString::to_string);
            self.fields.entry((owner.to_owned(), name)).or_default().extend(scope.names(&field.ty));
        }
    }

    fn take_impl(&mut self, file: usize, of: &syn::ItemImpl) {
        let scope = Scope::default().with(&of.generics);
        let Some(name) = head(&of.self_ty) else { return };
        // What a trait's bound has, what has that bound has, too.
        let owners = scope.parameters.get(&name).cloned().unwrap_or_else(|| BTreeSet::from([name]));
        for owner in &owners {
            let scope = scope.with_self(owner);
            if let Some(path) = of.trait_.as_ref().and_then(|(path, _)| path.segments.last()) {
                self.leads.entry(owner.clone()).or_default().insert(path.ident.to_string());
            }
            for item in &of.items {
                match item {
                    ImplItem::Fn(function) => self.take_function(
                        file,
                        Some(owner),
                        &scope,
                        &function.sig,
                        Some(&function.block),
                        function.span(),
                    ),
                    ImplItem::Type(target) if target.ident == "Target" => {
                        self.leads.entry(owner.clone()).or_default().extend(head(&target.ty));
                    }
                    _ => {}
                }
            }
        }
    }

    fn take_trait(&mut self, file: usize, of: &syn::ItemTrait) {
        let owner = of.ident.to_string();
        let scope = Scope::default().with(&of.generics).with_self(&owner);
        self.leads.entry(owner.clone()).or_default().extend(bounds(of.supertraits.iter()));
        for item in &of.items {
            if let TraitItem::Fn(function) = item {
                let body = function.default.as_ref();
                self.take_function(file, Some(&owner), &scope, &function.sig, body, function.span());
            }
        }
    }

    fn take_function(
        &mut self,
        file: usize,
        owner: Option<&str>,
        scope: &Scope,
        signature: &Signature,
        body: Option<&Block>,
        whole: proc_macro2::Span,
    ) {
        let scope = scope.with(&signature.generics);
        let takes = signature.inputs.iter().filter_map(|input| match input {
            FnArg::Typed(typed) => Some(((*typed.pat).clone(), scope.names(&typed.ty))),
            FnArg::Receiver(_) => None,
        });
        let gives = match &signature.output {
            ReturnType::Default => Names::new(),
            ReturnType::Type(_, of) => scope.names(of),
        };
        self.functions.push(Function {
            file,
            name: signature.ident.to_string(),
            owner: owner.map(str::to_owned),
            is_method: signature.receiver().is_some(),
            length: whole.end().line + 1 - signature.span().start().line,
            takes: takes.collect(),
            gives,
            body: body.cloned(),
        });
    }
}
