"""Loaders: the same interface over files of every format (issue 3, point 6)."""

from pathlib import Path

import pytest

from ops.datasets import Dataset, DatasetError, detect


def written(folder: Path, **files: str) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in files.items():
        (folder / name.replace("__", ".")).write_text(content, encoding="utf-8")
    return folder


@pytest.fixture
def tweetings(tmp_path: Path) -> Path:
    return written(
        tmp_path / "movietweetings",
        ratings__dat="1::0002::7::1365029107\n1::0001::10::1365029000\n2::0002::0::1365029107\n",
        movies__dat="0001::Fantômas (1913)::Crime|Drama\n0002::(500) Days of Summer (2009)::\n",
    )


@pytest.fixture
def movielens(tmp_path: Path) -> Path:
    return written(
        tmp_path / "ml",
        ml__inter="user_id:token\titem_id:token\trating:float\ttimestamp:float\n196\t242\t3\t881250949\n186\t302\t4.5\t1.5\n",
        ml__item="item_id:token\tmovie_title:token_seq\trelease_year:token\tclass:token_seq\n"
        "242\tKolya\t1996\tComedy\n302\tunkonwn\tunkonwn\tunknown\n7\tSeven\t1995\tCrime Thriller\n",
        ml__user="user_id:token\tage:token\n196\t49\n",
    )


@pytest.fixture
def clicks(tmp_path: Path) -> Path:
    return written(
        tmp_path / "yc",
        train__tsv="SessionId\tItemId\tTime\n3\t21\t1396437466.94\n4\t22\t1396437460.5\n",
        test__tsv="SessionId\tItemId\tTime\n9\t21\t1396437470\n",
    )


def ids(dataset: Dataset) -> list[str]:
    return [event.event_id for event in dataset.events()]


def test_ratings_are_events_in_time_order_with_ties_in_file_order(tweetings: Path) -> None:
    dataset = detect(tweetings)
    events = list(dataset.events())
    assert [(e.event_id, e.user_id, e.item_id, e.value) for e in events] == [
        ("mt-2", "1", "0001", 10.0),
        ("mt-1", "1", "0002", 7.0),
        ("mt-3", "2", "0002", 0.0),
    ]
    assert {(event.type, str(event.context)) for event in events} == {("rating", "{'scale': 10}")}
    assert [event.ts for event in events] == [1365029000000, 1365029107000, 1365029107000]
    assert (dataset.n_events, dataset.first_ts, dataset.last_ts) == (3, 1365029000000, 1365029107000)


def test_titles_years_and_genres_become_items(tweetings: Path) -> None:
    first, second = detect(tweetings).items()
    assert (first.title, first.release_date, first.genres, first.category) == (
        "Fantômas",
        "1913",
        ["Crime", "Drama"],
        "movie",
    )
    assert (second.title, second.release_date, second.genres) == ("(500) Days of Summer", "2009", [])


def test_recbole_files_are_read_by_their_header(movielens: Path) -> None:
    dataset = detect(movielens)
    assert [(e.event_id, e.user_id, e.value, e.ts) for e in dataset.events()] == [
        ("ml-3", "186", 4.5, 1500),
        ("ml-2", "196", 3.0, 881250949000),
    ]
    assert dataset.scale == 5
    items = {item.item_id: item for item in dataset.items()}
    assert items["7"].genres == ["Crime", "Thriller"]
    assert (items["302"].release_date, items["302"].genres) == (None, [])


def test_session_logs_are_clicks_of_a_user_per_session_merged_in_time_order(clicks: Path) -> None:
    dataset = detect(clicks)
    assert [(e.event_id, e.type, e.user_id, e.session_id, e.ts) for e in dataset.events()] == [
        ("click-train-3", "click", "4", "4", 1396437460500),
        ("click-train-2", "click", "3", "3", 1396437466940),
        ("click-test-2", "click", "9", "9", 1396437470000),
    ]
    assert sorted(item.item_id for item in dataset.items()) == ["21", "22"]
    assert dataset.n_items == 2


def test_plain_csv_takes_ratings_types_and_times_of_several_forms(tmp_path: Path) -> None:
    folder = written(
        tmp_path / "shop",
        events__csv="timestamp,visitorid,event,itemid\n"
        '1433221332117,257597,view,355908\n2015-06-02T05:02:13Z,1,addtocart,"a,b"\n1433221000,2,transaction,9\n',
    )
    assert [(e.type, e.user_id, e.item_id, e.ts) for e in detect(folder).events()] == [
        ("purchase", "2", "9", 1433221000000),
        ("view", "257597", "355908", 1433221332117),
        ("save", "1", "a,b", 1433221333000),
    ]


def test_movielens_csv_and_its_catalogue_are_read(tmp_path: Path) -> None:
    folder = written(
        tmp_path / "ml-latest",
        ratings__csv="userId,movieId,rating,timestamp\n1,1,4.0,964982703\n",
        movies__csv='movieId,title,genres\n1,"American President, The (1995)",Comedy|Drama\n2,X,(no genres listed)\n',
        links__csv="movieId,imdbId\n1,2\n",
    )
    dataset = detect(folder)
    items = list(dataset.items())
    assert (items[0].title, items[0].genres, items[0].release_date) == (
        "American President, The",
        ["Comedy", "Drama"],
        "1995",
    )
    assert items[1].genres == []
    assert ids(dataset) == ["ratings-2"]


def test_u_data_and_its_flags_are_read(tmp_path: Path) -> None:
    folder = written(tmp_path / "old", u__data="196\t242\t3\t881250949\n", u__genre="unknown|0\nAction|1\nComedy|2\n")
    (folder / "u.item").write_bytes("242|Misérables, Les (1995)|01-Jan-1995||url|0|1|1\n".encode("latin-1"))
    (item,) = detect(folder).items()
    assert (item.title, item.genres, item.release_date) == ("Misérables, Les", ["Action", "Comedy"], "1995")


def test_an_item_that_only_the_log_knows_is_in_the_catalogue_too(tweetings: Path) -> None:
    with (tweetings / "ratings.dat").open("a") as file:
        file.write("5::0009::5::1365029200\n")
    assert [item.item_id for item in detect(tweetings).items()] == ["0001", "0002", "0009"]


def test_a_folder_of_data_sets_gives_its_first(tweetings: Path, clicks: Path) -> None:
    assert detect(tweetings.parent).name == "movietweetings"


@pytest.mark.parametrize(
    ("line", "complaint"),
    [
        ("1::2::3", "got 3 fields"),
        ("1::2::x::1365029107", "could not convert"),
        ("1::2::3::-4", "expected a time"),
        ("::2::3::1365029107", "is empty"),
        ("1::2::101::1365029107", "from 0 to 100"),
        ("1::2::nan::1365029107", "from 0 to 100"),
    ],
)
def test_a_malformed_line_is_named_with_file_and_line_number(tweetings: Path, line: str, complaint: str) -> None:
    with (tweetings / "ratings.dat").open("a") as file:
        file.write(line + "\n")
    with pytest.raises(DatasetError, match=rf"ratings\.dat:4: .*{complaint}"):
        detect(tweetings)


def test_a_malformed_catalogue_line_is_named_with_file_and_line_number(tweetings: Path) -> None:
    with (tweetings / "movies.dat").open("a") as file:
        file.write("0003::no genres\n")
    with pytest.raises(DatasetError, match=r"movies\.dat:3: expected item::title::genres"):
        list(detect(tweetings).items())


def test_an_unknown_type_names_the_known_ones(tmp_path: Path) -> None:
    folder = written(tmp_path / "shop", events__csv="user,item,timestamp,type\n1,2,3,teleport\n")
    with pytest.raises(DatasetError, match=r"events\.csv:2: expected one of impression, click"):
        detect(folder)


def test_a_folder_without_data_says_what_is_expected(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match=r"expected a folder with ratings\.dat"):
        detect(tmp_path)
    with pytest.raises(DatasetError, match="not a folder"):
        detect(tmp_path / "nowhere")
    (tmp_path / "log.parquet").write_bytes(b"PAR1")
    with pytest.raises(DatasetError, match="save it as CSV"):
        detect(tmp_path)


def test_ids_do_not_change_with_the_run_and_parts_join_to_the_whole(tweetings: Path) -> None:
    dataset = detect(tweetings)
    again = detect(tweetings)
    assert ids(dataset) == ids(again)
    assert [*dataset.events(0, 1), *dataset.events(1)] == list(dataset.events())
