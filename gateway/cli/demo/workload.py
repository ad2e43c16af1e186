"""A labelling job: ordinary chat completions, made of templates, the same at every run, dealt out to the providers.

Each has one right answer: what the simulated provider says to it (`gateway.cli.demo.oracle`).
"""

from __future__ import annotations

import dataclasses
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from openai.types.chat import ChatCompletionMessageParam

_SYSTEM = "You label texts. Follow the instruction and write nothing else."

_PEOPLE = ("Amina", "Bruno", "Chiara", "Dmitri", "Esme", "Farid", "Greta", "Hiro", "Ines", "Jonas", "Keiko", "Luca")
_PLACES = ("harbour", "library", "orchard", "station", "museum", "bakery", "observatory", "workshop", "market", "ferry")
_THINGS = ("a lantern", "a map", "an old clock", "a crate of pears", "a violin", "a letter", "a kite", "a telescope")
_DEEDS = ("repaired", "painted", "sold", "borrowed", "carried", "found", "photographed", "returned")
_DAYS = ("on Monday", "on Tuesday", "before noon", "at dusk", "in early spring", "after the storm", "last winter")
_GOODS = ("kettle", "guest house", "night train", "bookshop", "headphones", "garden chair", "bicycle lamp", "city tour")
_PRAISE = ("wonderful", "excellent", "charming", "superb", "delightful", "friendly")
_BLAME = ("terrible", "disappointing", "broken", "horrible", "dirty", "useless")
_DETAILS = (
    "It came in a plain box.",
    "We had booked it weeks ahead.",
    "My sister had told me about it.",
    "It was the third we tried this year.",
    "The weather was what it usually is in May.",
    "I paid with the card I always use.",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Task:
    """One call of the job."""

    #: yes/no, entailment, paraphrase or sentiment.
    kind: str
    #: A text, and after it what is asked about it.
    prompt: str
    #: The provider it is dealt to.
    provider: str = ""

    @property
    def messages(self) -> list[ChatCompletionMessageParam]:
        """The conversation that is sent."""
        return [{"role": "system", "content": _SYSTEM}, {"role": "user", "content": self.prompt}]


@dataclass(frozen=True, slots=True, kw_only=True)
class Scene:
    """What one small story is made of."""

    person: str
    deed: str
    thing: str
    place: str
    day: str

    def told(self) -> str:
        """As a sentence in the active voice."""
        return f"{self.person} {self.deed} {self.thing} near the {self.place} {self.day}"

    def turned(self) -> str:
        """The same in the passive voice."""
        return f"{self.day} {self.thing} was {self.deed} near the {self.place} by {self.person}"


def dealt(job: Sequence[Task], providers: Sequence[str]) -> list[Task]:
    """The tasks of `job`, to the providers in turn; each provider gets tasks of every kind."""
    kinds = len({task.kind for task in job}) or 1
    return [
        dataclasses.replace(task, provider=providers[number // kinds % len(providers)])
        for number, task in enumerate(job)
    ]


def labelling_job(count: int) -> list[Task]:
    """`count` different tasks, the four kinds in turn."""
    chance = random.Random(20261121)
    writers: tuple[Callable[[random.Random], Task], ...] = (_question, _entailment, _paraphrase, _sentiment)
    job: dict[str, Task] = {}
    for number in range(count):
        task = writers[number % len(writers)](chance)
        if task.prompt in job:
            # Chance made two alike: a number tells them apart, for every question is to be asked once.
            task = Task(kind=task.kind, prompt=f"Text {number}. {task.prompt}")
        job[task.prompt] = task
    return list(job.values())


def _scene(chance: random.Random) -> Scene:
    return Scene(
        person=chance.choice(_PEOPLE),
        deed=chance.choice(_DEEDS),
        thing=chance.choice(_THINGS),
        place=chance.choice(_PLACES),
        day=chance.choice(_DAYS),
    )


def _question(chance: random.Random) -> Task:
    """A passage, and a question about one of its sentences or about something else."""
    scenes = [_scene(chance) for _ in range(3)]
    asked = chance.choice([*scenes, _scene(chance), _scene(chance)])
    passage = ". ".join(scene.told() for scene in scenes)
    question = f"Was {asked.thing} {asked.deed} near the {asked.place} by {asked.person}?"
    return Task(kind="yes/no", prompt=f"{passage}.\n{question} Answer with one word: yes or no.")


def _entailment(chance: random.Random) -> Task:
    """A premise, and something that follows from it, contradicts it, or neither."""
    scene, other = _scene(chance), _scene(chance)
    hypothesis = chance.choice(
        (
            f"{scene.person} was near the {scene.place}",
            f"{scene.person} has never been near the {scene.place}",
            f"{scene.person} knows {other.person}",
            f"{scene.thing} was {other.deed} {scene.day}",
        )
    )
    text = f"Premise: {scene.told()}.\nHypothesis: {hypothesis}.\n"
    return Task(kind="entailment", prompt=text + "Choose one of: entailment, neutral, contradiction.")


def _paraphrase(chance: random.Random) -> Task:
    """A sentence, and the same turned round or another one."""
    scene = _scene(chance)
    second = chance.choice((scene, _scene(chance))).turned()
    return Task(
        kind="paraphrase",
        prompt=f"{scene.told()}. Is it the same to say that {second}? Answer with one word: yes or no.",
    )


def _sentiment(chance: random.Random) -> Task:
    """A review that praises, blames, or does neither."""
    goods = chance.choice(_GOODS)
    verdicts = (
        f"What a {chance.choice(_PRAISE)} {goods}, I recommend it.",
        f"What a {chance.choice(_BLAME)} {goods}, never again.",
        f"The {goods} is as one would think.",
    )
    review = [chance.choice(verdicts), *chance.sample(_DETAILS, 2)]
    chance.shuffle(review)
    return Task(kind="sentiment", prompt=" ".join(review) + "\nReply with one of: positive, negative, neutral.")
