import pytest

from preferans.people.access import check_password, is_loopback, known_hosts, new_password

from ..support.rating import Browser, make_studio


@pytest.mark.parametrize(
    ("host", "expected"),
    [
        ("127.0.0.1", True),
        ("127.8.0.1", True),
        ("localhost", True),
        ("::1", True),
        ("0.0.0.0", False),
        ("192.168.1.5", False),
        ("example.org", False),
    ],
)
def test_loopback_addresses(host, expected):
    assert is_loopback(host) == expected


def test_only_this_machine_is_known_by_default():
    assert known_hosts("127.0.0.1") == ["127.0.0.1", "localhost"]
    assert {"192.168.1.5", "localhost"} <= set(known_hosts("192.168.1.5"))
    assert "*" not in known_hosts("0.0.0.0")


def test_passwords():
    assert len({new_password() for _ in range(50)}) == 50 and len(new_password()) >= 12
    assert check_password("тайна", "тайна") and check_password(None, "")
    assert not check_password("тайна", "") and not check_password("тайна", "Тайна")


@pytest.fixture
def browser(tmp_path):
    browser = Browser(make_studio(tmp_path))
    browser.get("/rate")
    return browser


@pytest.mark.parametrize(
    "host", ["evil.example", "127.0.0.1.evil.example", "evil.example:8765", "", "127.0.0.1@evil.example"]
)
def test_another_host_header_is_refused(browser, host):
    for path in ("/", "/rate", "/results", "/static/rate.js"):
        assert browser.client.get(path, headers={"Host": host}).status_code == 400


@pytest.mark.parametrize(
    "origin", ["https://evil.example", "http://127.0.0.1:9999", "http://localhost:8765", "null", ""]
)
def test_a_form_from_another_site_is_refused(browser, origin):
    path = f"/items/{browser.item}"
    form = {"token": browser.token, "verdict": "left"}
    assert browser.client.post(path, data=form, headers={"Origin": origin}).status_code == 403
    assert browser.client.post(path, data=form, headers={"Origin": "http://127.0.0.1:8765"}).status_code == 200


@pytest.mark.parametrize("token", ["", "wrong", "тайна", None])
@pytest.mark.parametrize("path", ["/items/ITEM", "/undo", "/"])
def test_a_form_without_the_token_is_refused(browser, path, token, tmp_path):
    form = {"verdict": "left", "name": "Борис"} | ({} if token is None else {"token": token})
    assert browser.client.post(path.replace("ITEM", browser.item), data=form).status_code == 403


def test_a_token_of_another_session_is_refused(browser, tmp_path):
    other = Browser(make_studio(tmp_path), "Борис")
    token = other.get("/rate").text.split('name="token" value="')[1].split('"')[0]
    assert browser.client.post(f"/items/{browser.item}", data={"token": token, "verdict": "left"}).status_code == 403


def test_cookies_and_headers(tmp_path):
    browser = Browser(make_studio(tmp_path), None)
    cookie = browser.page.headers["set-cookie"].lower()
    assert "preferans_8765=" in cookie and "httponly" in cookie and "samesite=strict" in cookie
    for path in ("/", "/static/rate.css", "/nothing"):
        headers = browser.get(path).headers
        policy = dict(part.strip().split(" ", 1) for part in headers["content-security-policy"].split(";"))
        assert policy["default-src"] == "'none'" and policy["script-src"] == "'self'"
        assert "unsafe" not in headers["content-security-policy"] and "img-src" not in policy
        assert policy["frame-ancestors"] == "'none'" and headers["x-content-type-options"] == "nosniff"


def test_a_forged_cookie_is_no_session(browser):
    browser.client.cookies.clear()
    browser.client.cookies.set("preferans_8765", "eyJyYXRlciI6ICLQkNC90L3QsCJ9.aaaa.bbbb")
    assert browser.get("/rate").url.path == "/"


def test_a_password_is_needed_if_there_is_one(tmp_path):
    studio = make_studio(tmp_path, password="тайна")
    browser = Browser(studio, None)
    assert browser.get("/rate").url.path == "/"
    browser.post("/", name="Анна", password="не та")
    assert "Пароль не подходит" in browser.text
    assert browser.get("/results").url.path == "/"
    browser.post("/", name="Анна", password="тайна")
    assert browser.get("/rate").url.path.startswith("/items/")
    # a session from before there was a password does not count
    studio = make_studio(tmp_path / "b")
    early = Browser(studio)
    studio.password = "тайна"
    assert early.get("/rate").url.path == "/"
