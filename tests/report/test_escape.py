"""Text from a document in Markdown: shown as it is, never obeyed."""

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from markdown_it import MarkdownIt

from opbench.report.escape import block, code, label, prose, visible

PARSER = MarkdownIt("commonmark").enable(["table", "strikethrough"])
HOSTILE = (
    "<script>alert(1)</script>",
    "a | b",
    "\\| \\",
    "`tick` ``` ~~~",
    "[link](javascript:alert(1)) ![image](http://evil/x.png) [ref][x] <http://evil>",
    "**bold** __bold__ _it_ ~~gone~~ &amp; &#60;b&#62;",
    "two\n\n# lines\r\n- item",
    "https://evil.example www.evil.example mail@evil.example @everyone #12 :100: $x^2$",
    "| --- |",
    "$a|b$",
    "",
    " ",
)


def shown(markdown):
    """What a reader sees of inline Markdown, and the kinds of markup in it."""
    tokens = [child for token in PARSER.parse(markdown) for child in token.children or ()]
    return "".join(token.content for token in tokens), {token.type for token in tokens}


def words(text):
    return " ".join(text.split())


def examples(test):
    for text in HOSTILE:
        test = example(text)(test)
    return test


@examples
@given(st.text())
def test_prose_in_a_paragraph_is_the_text_and_nothing_else(text):
    got, kinds = shown(f"Source: {prose(text)}")
    assert words(got) == words(f"Source: {visible(text)}") or (prose(text), got) == ("`(empty)`", "Source: (empty)")
    assert kinds <= {"text", "text_special", "code_inline"}


@pytest.mark.parametrize("write", [prose, code])
@pytest.mark.parametrize("text", HOSTILE)
def test_a_table_cell_holds_the_whole_text_and_stays_one_cell(write, text):
    table = PARSER.parse(f"| a | b |\n| --- | --- |\n| {write(text)} | end |")
    cells = [token.children for token in table if token.type == "inline"]
    assert len(cells) == 4
    got = "".join(child.content for child in cells[2])
    assert words(got) in {words(visible(text)), "(empty)"}


@given(st.text(alphabet="[]()!\\`*_<>&| a"))
def test_a_label_stays_inside_its_brackets(text):
    (image,) = [child for token in PARSER.parse(f"![x{label(text)}y](z.svg)") for child in token.children or ()]
    assert (image.type, image.attrs["src"]) == ("image", "z.svg")
    assert words(image.content.replace("\\", "")) == words(f"x{visible(text)}y".replace("\\", ""))


@given(st.text(alphabet="`| ab\\", min_size=1))
def test_a_code_span_is_the_text(text):
    got, kinds = shown(f"x {code(text)} y")
    assert words(got) in {words(f"x {visible(text)} y"), "x (empty) y"}
    assert kinds <= {"text", "text_special", "code_inline"}


@given(st.lists(st.text(alphabet="`~\n abc"), min_size=1))
def test_a_block_shows_each_line_and_does_not_end_early(lines):
    (token,) = PARSER.parse(block(lines, "sh"))
    assert token.type == "fence"
    assert token.content.split("\n")[:-1] == [visible(line) for line in lines]


def test_what_a_host_brings_to_life_is_code():
    for text in ("@everyone", "see #12", "https://evil.example", "$x$", ":100:"):
        assert shown(prose(text))[1] == {"code_inline"}


def test_ordinary_text_reads_as_it_is():
    text = "YOLOv8n neck, P5->P4 (640x640), max_error [1.89, 1.91] 3.5 %"
    assert prose(text) == text


@given(st.text())
def test_visible_text_is_one_line_without_control_characters(text):
    assert not set(visible(text)) & set("\n\r\t\x1b\x9b\u2028\u2029\u202a\u202e\u2066\u200b\ufeff")


def test_a_terminal_escape_is_shown_as_its_code():
    assert visible("\x1b[31mred\u202e") == "\\x1b[31mred\\u202e"


def test_long_text_says_how_much_was_left_out():
    assert visible("x" * 1234, limit=10) == "x" * 10 + " ... (1,224 more characters)"
