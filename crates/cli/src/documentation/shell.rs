//! The commands in a piece of shell, each as its words: as much of the language as the documentation uses.

/// All commands in order, without variables that are set before them. Substitutions (`$(…)`) are commands of their own; texts of here-documents
/// are left out.
pub(super) fn commands(text: &str) -> Vec<Vec<String>> {
    let mut reader = Reader {
        rest: text.chars().collect(),
        place: 0,
        word: None,
        words: Vec::new(),
        commands: Vec::new(),
        heredocs: Vec::new(),
    };
    reader.read();
    let commands = reader
        .commands
        .into_iter()
        .map(|words| words.into_iter().skip_while(|word| is_assignment(word)).collect());
    commands.filter(|words: &Vec<String>| !words.is_empty()).collect()
}

fn is_assignment(word: &str) -> bool {
    word.split_once('=').is_some_and(|(name, _)| {
        !name.is_empty()
            && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_')
            && !name.starts_with(|c: char| c.is_ascii_digit())
    })
}

struct Reader {
    rest: Vec<char>,
    place: usize,
    word: Option<String>,
    words: Vec<String>,
    commands: Vec<Vec<String>>,
    /// Ends of here-documents that begin with the next line.
    heredocs: Vec<String>,
}

impl Reader {
    fn next(&mut self) -> Option<char> {
        let next = self.rest.get(self.place).copied();
        self.place += usize::from(next.is_some());
        next
    }

    fn peek(&self) -> Option<char> {
        self.rest.get(self.place).copied()
    }

    fn push(&mut self, character: char) {
        self.word.get_or_insert_default().push(character);
    }

    fn end_word(&mut self) {
        self.words.extend(self.word.take());
    }

    fn end_command(&mut self) {
        self.end_word();
        self.commands.push(std::mem::take(&mut self.words));
    }

    fn read(&mut self) {
        while let Some(character) = self.next() {
            match character {
                '\\' => match self.next() {
                    Some('\n') | None => {}
                    Some(escaped) => self.push(escaped),
                },
                '\'' => {
                    self.word.get_or_insert_default();
                    while let Some(quoted) = self.next().filter(|quoted| *quoted != '\'') {
                        self.push(quoted);
                    }
                }
                '"' => self.double_quoted(),
                '#' if self.word.is_none() => {
                    while self.peek().is_some_and(|next| next != '\n') {
                        self.place += 1;
                    }
                }
                '<' | '>' => self.redirection(character),
                '$' if self.peek() == Some('(') => {
                    self.place += 1;
                    self.end_command();
                }
                '\n' => {
                    self.end_command();
                    self.skip_heredocs();
                }
                ';' | '|' | '&' | '(' | ')' => self.end_command(),
                ' ' | '\t' => self.end_word(),
                other => self.push(other),
            }
        }
        self.end_command();
    }

    fn double_quoted(&mut self) {
        self.word.get_or_insert_default();
        while let Some(quoted) = self.next().filter(|quoted| *quoted != '"') {
            let next = self.peek();
            if quoted == '\\' && next.is_some_and(|next| ['"', '\\', '$', '`', '\n'].contains(&next)) {
                let escaped = self.next().filter(|escaped| *escaped != '\n');
                if let Some(escaped) = escaped {
                    self.push(escaped);
                }
            } else {
                self.push(quoted);
            }
        }
    }

    /// A redirection and its file, which are no words of the command.
    fn redirection(&mut self, operator: char) {
        // The number of a descriptor before it.
        if self.word.as_ref().is_some_and(|word| word.chars().all(|c| c.is_ascii_digit())) {
            self.word = None;
        }
        self.end_word();
        let mut length = 1;
        while self.peek().is_some_and(|next| ['<', '>', '&'].contains(&next)) {
            self.place += 1;
            length += 1;
        }
        while self.peek() == Some(' ') {
            self.place += 1;
        }
        let mut target = String::new();
        while let Some(next) = self.peek().filter(|next| !next.is_whitespace() && !";|&()".contains(*next)) {
            target.push(next);
            self.place += 1;
        }
        if operator == '<' && length == 2 {
            self.heredocs.push(target.trim_matches(['\'', '"']).to_owned());
        }
    }

    fn skip_heredocs(&mut self) {
        for end in std::mem::take(&mut self.heredocs) {
            loop {
                let mut line = String::new();
                while let Some(next) = self.next().filter(|next| *next != '\n') {
                    line.push(next);
                }
                if line == end || self.place >= self.rest.len() {
                    break;
                }
            }
        }
    }
}

#[test]
fn commands_are_found_with_their_words() {
    let text = "A=1 sudo -u x run 'a b' \"c \\\"d\\\" $E\" f\\ g | h > file 2>&1 # i j\nT=$(k l) && m \\\n  n <<'END'\no p\nEND\nq < r; s &\n";
    let expected: [&[&str]; 6] = [
        &["sudo", "-u", "x", "run", "a b", "c \"d\" $E", "f g"],
        &["h"],
        &["k", "l"],
        &["m", "n"],
        &["q"],
        &["s"],
    ];
    assert_eq!(commands(text), expected);
}

#[test]
fn what_is_cut_short_is_read_as_far_as_it_goes() {
    for text in ["'a", "\"a", "a \\", "a <<END\nb", "$(a", "a >"] {
        assert!(commands(text).len() <= 1, "{text}");
    }
}
