//! Layers over layers: what is seen of all of them, and what none of them can reach.

use tar::EntryType;

use super::super::archives::Builder;
use super::*;

/// Layers merged: each file by its path, with its kind and contents in a few words.
fn merged(layers: &[Builder]) -> Result<Vec<String>, ApplyLayerError> {
    let mut tree = Tree::new(0);
    for (number, layer) in layers.iter().enumerate() {
        tree.apply(number, layer.clone().read().expect("an archive"))?;
    }
    let archives: Vec<Vec<u8>> = layers.iter().map(|layer| layer.clone().end()).collect();
    let mut found = Vec::new();
    let mut ahead = vec![(String::new(), ROOT)];
    while let Some((path, id)) = ahead.pop() {
        found.push(match &tree.node(id).kind {
            Kind::Directory(names) => {
                ahead.extend(names.iter().map(|(name, id)| (format!("{path}/{name}"), *id)));
                format!("{path}/")
            }
            Kind::File(content) => {
                let range = usize::try_from(content.offset).expect("small")..;
                let contents =
                    &archives[content.layer][range][..usize::try_from(content.length).expect("small")];
                format!("{path}={}", String::from_utf8_lossy(contents))
            }
            Kind::SymbolicLink(target) => format!("{path}->{target}"),
            Kind::Fifo => format!("{path}|"),
        });
    }
    found.sort();
    Ok(found)
}

fn sees(layers: &[Builder], expected: &[&str]) {
    let found = merged(layers).unwrap_or_else(|error| unreachable!("{error}"));
    assert_eq!(found, [&["/"], expected].concat());
}

fn refuses(layers: &[Builder], problem: &str) {
    match merged(layers) {
        Err(error) => assert!(error.to_string().contains(problem), "{error}"),
        Ok(found) => unreachable!("became {found:?}"),
    }
}

fn new() -> Builder {
    Builder::default()
}

#[test]
fn a_later_layer_replaces_whatever_is_of_another_kind() {
    let lower =
        new().directory("a").file("a/in", b"1").file("b", b"1").symbolic_link("c", "a").file("d", b"1");
    sees(
        &[lower.clone(), new().file("a", b"2").directory("b").directory("c").symbolic_link("d", "b")],
        &["/a=2", "/b/", "/c/", "/d->b"],
    );
    // A directory keeps what it has; so does what a link led to.
    sees(&[lower, new().directory("a")], &["/a/", "/a/in=1", "/b=1", "/c->a", "/d=1"]);
}

#[test]
fn a_directory_takes_the_metadata_of_its_last_entry() {
    let with_mode = |mode| {
        new().entry(EntryType::Directory, "a", b"", |header| {
            header.set_mode(mode);
            header.set_uid(u64::from(mode));
        })
    };
    let mut tree = Tree::new(7);
    let root = new().entry(EntryType::Directory, "./", b"", |header| header.set_mode(0o700));
    for (number, layer) in
        [with_mode(0o755).file("a/b/c", b""), with_mode(0o2770), root].into_iter().enumerate()
    {
        tree.apply(number, layer.read().expect("an archive")).expect("applies");
    }
    assert_eq!(tree.node(ROOT).attributes.mode, 0o700);
    let a = tree.directory(&["a"], false).expect("found").expect("there");
    assert_eq!((tree.node(a).attributes.mode, tree.node(a).attributes.uid), (0o2770, 0o2770));
    // Nobody has said anything about it.
    let b = tree.directory(&["a", "b"], false).expect("found").expect("there");
    assert_eq!((tree.node(b).attributes.mode, tree.node(b).attributes.modified), (0o755, (7, 0)));
}

#[test]
fn whiteouts_remove_from_lower_layers_alone_wherever_they_stand() {
    let lower = new().file("a/1", b"low").file("a/2", b"low").file("b", b"low");
    let seen = ["/a/", "/a/2=high"];
    sees(
        &[
            lower.clone(),
            new().file("a/2", b"high").file("a/.wh.1", b"").file("a/.wh.2", b"").file(".wh.b", b""),
        ],
        &seen,
    );
    sees(
        &[
            lower.clone(),
            new().file(".wh.b", b"").file("a/.wh.2", b"").file("a/.wh.1", b"").file("a/2", b"high"),
        ],
        &seen,
    );
    // What is not there can be removed, in what is not there, or is none.
    sees(
        &[lower, new().file(".wh.none", b"").file("none/.wh.x", b"").file("b/.wh.x", b"")],
        &["/a/", "/a/1=low", "/a/2=low", "/b=low"],
    );
    refuses(&[new().directory("a"), new().file("a/.wh.", b"")], "removes something without a name");
    refuses(&[new().directory("a"), new().file("a/.wh...", b"")], "removes something without a name");
    refuses(&[new().directory("a"), new().file("a/.wh..", b"")], "removes something without a name");
}

#[test]
fn an_opaque_directory_hides_what_lower_layers_have_in_it_alone() {
    let lower = new().file("a/1", b"low").file("a/b/2", b"low").file("c", b"low");
    let seen = ["/a/", "/a/1=high", "/c=low"];
    sees(&[lower.clone(), new().file("a/1", b"high").file("a/.wh..wh..opq", b"")], &seen);
    sees(&[lower.clone(), new().file("a/.wh..wh..opq", b"").file("a/1", b"high")], &seen);
    // All of the image.
    sees(&[lower.clone(), new().file(".wh..wh..opq", b"").file("x", b"high")], &["/x=high"]);
    // Notes of a storage driver are no whiteouts, and no files.
    let notes = new().directory(".wh..wh.plnk").file(".wh..wh.aufs", b"").file("a/.wh..wh.orph", b"");
    sees(&[lower, notes], &["/a/", "/a/1=low", "/a/b/", "/a/b/2=low", "/c=low"]);
}

#[test]
fn a_whiteout_and_a_new_directory_of_one_name_leave_what_is_new() {
    let lower = new().file("a/old", b"low");
    sees(&[lower, new().directory("a").file("a/new", b"high").file(".wh.a", b"")], &["/a/", "/a/new=high"]);
}

#[test]
fn hard_links_are_one_file_across_layers() {
    let lower = new().file("a", b"low").symbolic_link("s", "a");
    sees(
        &[lower.clone(), new().hard_link("b", "a").hard_link("/c", "./a")],
        &["/a=low", "/b=low", "/c=low", "/s->a"],
    );
    // One that is replaced leaves the other as it was; a link to a link is a link.
    sees(
        &[lower.clone(), new().hard_link("b", "a").hard_link("t", "s"), new().file("a", b"new")],
        &["/a=new", "/b=low", "/s->a", "/t->a"],
    );
    sees(&[lower.clone(), new().hard_link("a", "a")], &["/a=low", "/s->a"]);
    let missing = "is a hard link to a file that is not there";
    refuses(&[lower.clone(), new().hard_link("b", "none")], missing);
    refuses(&[lower.clone(), new().hard_link("b", "a/none")], missing);
    refuses(&[lower.clone(), new().hard_link("b", "/")], missing);
    refuses(&[lower.clone(), new().hard_link("b", "a").file(".wh.a", b"")], missing);
    refuses(&[lower.clone(), new().hard_link("b", "../a")], "has .. in its path");
    refuses(&[lower, new().directory("d").hard_link("b", "d")], "is a hard link to a directory");
}

#[test]
fn parents_are_followed_within_the_image_and_nowhere_else() {
    let lower = new()
        .directory("usr/lib")
        .symbolic_link("lib", "usr/lib")
        .symbolic_link("absolute", "/usr/lib")
        .symbolic_link("clamped", "../../../../usr/lib/.././lib")
        .symbolic_link("usr/up", "..")
        .symbolic_link("missing", "made/here");
    for path in ["lib/a", "absolute/a", "clamped/a", "usr/up/lib/a", "usr/up/usr/up/absolute/a", "//lib//./a"]
    {
        let found = merged(&[lower.clone(), new().file(path, b"2")]).expect("merged");
        assert!(found.contains(&"/usr/lib/a=2".to_owned()), "{path}: {found:?}");
        assert!(found.contains(&"/lib->usr/lib".to_owned()), "{path}: {found:?}");
    }
    let found = merged(&[lower.clone(), new().file("missing/a", b"2")]).expect("merged");
    assert!(found.contains(&"/made/here/a=2".to_owned()), "{found:?}");
    let found =
        merged(&[lower.clone().file("usr/lib/a", b"1"), new().file("lib/.wh.a", b"")]).expect("merged");
    assert!(!found.iter().any(|file| file.starts_with("/usr/lib/a")), "{found:?}");
    refuses(&[lower.clone(), new().file("usr/../a", b"")], "has .. in its path");
    refuses(&[lower, new().file("..", b"")], "has .. in its path");
}

#[test]
fn links_that_go_round_are_refused() {
    let problem = "leads through too many symbolic links";
    refuses(&[new().symbolic_link("a", "b").symbolic_link("b", "a").file("a/x", b"")], problem);
    refuses(&[new().symbolic_link("a", "a/a").file("a/x", b"")], problem);
    refuses(&[new().symbolic_link("a", "a"), new().file("a/.wh.x", b"")], problem);
    let chain = |length| {
        let names = (0..length).map(|number| (number.to_string(), (number + 1).to_string()));
        let layer = names.fold(new(), |layer, (name, next)| layer.symbolic_link(&name, &next));
        layer.directory(&length.to_string()).file("0/x", b"")
    };
    assert!(merged(&[chain(MAX_LINKS_FOLLOWED)]).is_ok());
    refuses(&[chain(MAX_LINKS_FOLLOWED + 1)], problem);
}

#[test]
fn of_entries_with_one_name_the_last_counts() {
    sees(&[new().file("a", b"1").symbolic_link("a", "x").file("a", b"3")], &["/a=3"]);
    sees(&[new().file("a/b", b"1").file("a", b"2")], &["/a=2"]);
    sees(&[new().file("./a", b"1").file("/a", b"2")], &["/a=2"]);
}

#[test]
fn there_are_no_devices_and_what_is_in_their_place_goes() {
    let device = |path: &str| new().entry(EntryType::Char, path, b"", |_| {});
    sees(&[new().file("a", b"1"), device("a"), device("b")], &[]);
    sees(&[new().entry(EntryType::Fifo, "pipe", b"", |_| {})], &["/pipe|"]);
}

#[test]
fn lost_and_found_is_that_of_the_file_system() {
    sees(&[new().directory("lost+found").directory("a/lost+found")], &["/a/", "/a/lost+found/"]);
    let through = new().symbolic_link("l", "lost+found").file("l/x", b"").file("lost+found/a/b", b"");
    sees(&[through], &["/l->lost+found"]);
}

#[test]
fn a_directory_that_comes_instead_of_a_link_hides_nothing_where_that_led() {
    let below =
        || new().file("usr/lib/a", b"").symbolic_link("lib", "usr/lib").directory("etc").file("etc/c", b"");
    let above =
        new().directory("lib").file("lib/.wh..wh..opq", b"").file("lib/.wh.a", b"").file("lib/b", b"");
    let all = ["/etc/", "/etc/c=", "/lib/", "/lib/b=", "/usr/", "/usr/lib/", "/usr/lib/a="];
    sees(&[below(), above], &all);
    // One that stays a link is followed.
    let above = new().file("lib/.wh.a", b"").directory("etc").file("etc/.wh..wh..opq", b"");
    sees(&[below(), above], &["/etc/", "/lib->usr/lib", "/usr/", "/usr/lib/"]);
}

#[test]
fn files_are_no_directories_and_the_root_is_nothing_else() {
    refuses(&[new().file("a", b"").file("a/b", b"")], "lies in something that is no directory");
    for path in ["", "/", "./", "."] {
        refuses(&[new().symbolic_link(path, "x")], "would be the root and is no directory");
        refuses(&[new().records(&[("path", path.as_bytes())]).hard_link("x", "y")], "would be the root");
    }
}

#[test]
fn names_that_no_file_system_holds_are_refused() {
    refuses(&[new().records(&[("path", b"a/\xff")]).file("x", b"")], "has a name that is not UTF-8");
    refuses(
        &[new().records(&[("linkpath", b"\xff")]).symbolic_link("x", "y")],
        "is a link to what is not UTF-8",
    );
    let (longest, longer) = ("é".repeat(127) + "x", "x".repeat(256));
    assert!(merged(&[new().records(&[("path", longest.as_bytes())]).file("x", b"")]).is_ok());
    refuses(&[new().records(&[("path", longer.as_bytes())]).file("x", b"")], "has a name that is too long");
    // Through a link as well.
    let linked = new().records(&[("linkpath", longer.as_bytes())]).symbolic_link("a", "b").file("a/x", b"");
    refuses(&[linked], "has a name that is too long");
}

#[test]
fn directories_are_nested_so_deep_and_no_deeper() {
    let nested = |depth| {
        let path = "d/".repeat(depth);
        new().records(&[("path", path.as_bytes())]).directory("x")
    };
    assert!(merged(&[nested(MAX_DEPTH - 1)]).is_ok());
    refuses(&[nested(MAX_DEPTH + 1)], "is nested too deeply");
    // By way of links, which make paths longer than they look.
    let half = "d/".repeat(MAX_DEPTH / 2);
    let links = nested(MAX_DEPTH / 2).records(&[("linkpath", half.as_bytes())]).symbolic_link("l", "x");
    let deeper = links.records(&[("path", format!("{half}l2").as_bytes()), ("linkpath", half.as_bytes())]);
    let deepest = format!("l/l2/{half}x/y");
    refuses(
        &[deeper.symbolic_link("x", "x").records(&[("path", deepest.as_bytes())]).file("x", b"")],
        "is nested too deeply",
    );
}

#[test]
fn small_archives_do_not_become_trees_without_end() {
    // Each entry needs hundreds of directories that no other has.
    let path = "d/".repeat(MAX_DEPTH - 2);
    let mut tree = Tree::new(0);
    let entries = |from: usize| {
        let entry = |number| {
            let records = [("path", format!("{number}/{path}").into_bytes())];
            let archive = new().records(&[(records[0].0, &records[0].1)]).file("x", b"").read();
            archive.expect("an archive").remove(0)
        };
        (from..from + 100).map(entry).collect::<Vec<_>>()
    };
    let outcome = (0..20).try_for_each(|batch| tree.apply(0, entries(batch * 100)));
    let error = outcome.expect_err("too many");
    assert!(error.to_string().contains("is one more than any image has"), "{error}");
    assert!(tree.len() <= MAX_NODES);
}

#[test]
fn links_do_not_make_work_without_end() {
    // A chain of links, each with a long target of which one name alone is looked up.
    let filler = "/.".repeat(2000);
    let links = (0..39).fold(new(), |layer, number| {
        let target = format!("l{}{filler}", number + 1);
        layer.records(&[("linkpath", target.as_bytes())]).symbolic_link(&format!("l{number}"), "x")
    });
    let mut tree = Tree::new(0);
    tree.apply(0, links.read().expect("an archive")).expect("applies");
    let whiteouts = new().file("l0/.wh.x", b"").read().expect("an archive");
    let outcome = (0..2000).try_for_each(|_| tree.apply(1, whiteouts.clone()));
    let error = outcome.expect_err("too many steps");
    assert!(error.to_string().contains("is one of too many with long paths"), "{error}");
}
