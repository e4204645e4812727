import pytest

from engine.errors import Refused
from engine.services import passwords


@pytest.mark.parametrize(
    ("password", "why"),
    [
        ("elevenchars", "12 to 256"),
        ("x" * 257, "12 to 256"),
        ("aaaaaaaaaaaabb", "different characters"),
        ("password2026", "first that anybody"),
        ("P@ssw0rd1234", "first that anybody"),
        ("Radiology2026!", "first that anybody"),
        ("123456789012", "first that anybody"),
        ("abcdefghijkl", "first that anybody"),
        ("abc1def2abc1def2", "first that anybody"),
        ("my name is rita ok", "user name"),
    ],
)
def test_what_anybody_would_try_is_refused(password: str, why: str) -> None:
    with pytest.raises(Refused, match=why):
        passwords.check_rules(password, "rita")


@pytest.mark.parametrize("password", ["short enough", "correct horse battery", "Grüße aus der Röntgenstraße"])
def test_length_is_enough(password: str) -> None:
    passwords.check_rules(password, "rita")


def test_kept_as_argon2id_with_a_salt_of_its_own() -> None:
    first, second = passwords.hash_of("correct horse battery"), passwords.hash_of("correct horse battery")
    assert first != second and first.startswith("$argon2id$v=19$m=65536,t=3,p=4$")
    assert passwords.is_right(first, "correct horse battery") and not passwords.is_right(first, "Correct horse battery")


def test_where_there_is_nothing_to_compare_with_as_much_is_computed(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []

    class Counting:
        def hash(self, password: str) -> str:
            return "$argon2id$of-nobody"

        def verify(self, kept: str, password: str) -> bool:
            asked.append(kept)
            return True  # even then nobody gets in

    monkeypatch.setattr(passwords, "_hasher", Counting())
    passwords._of_nobody.cache_clear()
    assert passwords.is_right(None, "whatever it is") is False
    assert asked == ["$argon2id$of-nobody"]
    passwords._of_nobody.cache_clear()
