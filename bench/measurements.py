"""The catalogue of measurements: what each one is, how it is run, and what of its figures the report leaves out."""

from collections.abc import Iterable
from dataclasses import dataclass, replace


@dataclass(frozen=True, slots=True)
class Measurement:
    """One result file, and what stands behind it."""

    name: str
    """Of its JSON, and of its picture where it has one."""
    title: str
    command: str
    how: str
    """What was done, in sentences that hold whatever came out."""
    minutes: float | None = None
    """A full run's length where `make bench` runs it, as `python -m bench.<module>`; else None."""
    module: str = ""
    """What `make bench` starts."""
    by_name: bool = False
    """Whether `make bench` runs it only where it is named."""
    left_out: tuple[str, ...] = ()
    """Figures that say nothing to a reader: long series, settings told elsewhere."""


MEASUREMENTS = (
    Measurement(
        "overhead",
        "Overhead",
        "make bench ONLY=overhead",
        "Workers send fragments of 6 s to the whole service, whose models answer at once, with base64 and with binary "
        "audio by turns. The overhead is the time from sending to the result at the worker, minus what the stages "
        "computed (decoding and encoding audio); clocks at every door tell its parts.",
        minutes=2.5,
        module="overhead",
    ),
    Measurement(
        "latency",
        "Acknowledgements",
        "make bench ONLY=latency",
        "A worker sends a fragment again and again while it is in flight, and times each `fragment:ack`, with idle "
        "models and with models that other streams keep busy.",
        minutes=1,
        module="latency",
    ),
    Measurement(
        "scaling",
        "Live streams at once",
        "make bench ONLY=scaling",
        "Workers send a fragment of 6 s every 6 s each, at scheduled times whatever comes back, to "
        "configs/local.yaml: with espeak-ng as its voice (fast) and with the neural voice. Latency counts from the "
        "scheduled time. η is the throughput at saturation over cores ÷ CPU seconds a fragment.",
        minutes=6,
        module="scaling",
    ),
    Measurement(
        "captions",
        "Live captions",
        "make bench ONLY=captions",
        "Sessions of `/v1/listen` send recorded speech with pauses of 2 s in real time to configs/local.yaml with "
        "Moonshine for interims. Times count from where a voice starts and ends in the recording; a pause of 500 ms "
        "ends an utterance, and stands in the time of its final.",
        minutes=5,
        module="captions",
        by_name=True,
    ),
    Measurement(
        "captions_long",
        "Captions of no words, and for an hour",
        "python -m bench.captions_long",
        "Ten minutes each of silence, noise and music are sent to `/v1/listen` faster than they last, and every word "
        "that is shown is counted. Then one session hears an hour of speech, as fast as the models do, while the "
        "memory of the ingress is watched.",
    ),
    Measurement(
        "baselines",
        "Beside what one would write instead",
        "make bench ONLY=baselines",
        "The same models, clips and workers, turn by turn in one run: this service, a single-process python-socketio "
        "server that calls the models in its handlers, the same with a pool of threads, and a script that takes one "
        "fragment after the other.",
        minutes=5,
        module="baselines",
    ),
    Measurement(
        "asr_batching_cpu",
        "Batches across streams",
        "make bench ONLY=asr_batching",
        "Whisper hears fragments of several streams in one call, and one by one; batch sizes take turns, and what was "
        "heard is compared word by word. The other models of configs/local.yaml take one text at a time.",
        minutes=1.5,
        module="asr_batching",
    ),
    Measurement(
        "xtts_sharing_cuda",
        "XTTS v2 on a card that streams share",
        "python -m bench.xtts_sharing --quick",
        "XTTS v2 of full size with random weights (what it says is noise, how long a step takes is not) speaks the "
        "same fragments of 6 s one at a time, several sentences in one pass, and in threads. Eight fragments a way; "
        "the run was ended before the ways behind those shown, float32 and processes among them.",
        left_out=("about", "device"),
    ),
    Measurement(
        "voice_speed",
        "The neural voice",
        "make bench ONLY=voice_speed",
        "The same sentences are spoken by Kokoro as it is packaged (int8), as it is shipped here (rewritten), and with "
        "convolutions of float32 and of float16 weights, turn by turn, in CPU seconds for a second of speech; a "
        "multilingual Whisper says how much of the first two it understands.",
        minutes=4.5,
        module="voice_speed",
    ),
    Measurement(
        "voice_speed_avx2",
        "The neural voice without VNNI",
        "python -m bench.voice_speed --name avx2",
        "The same where ONNX Runtime has AVX2 and neither AVX-512 nor VNNI. The CPU has both: in a copy of the library "
        "each CPUID instruction was made an invalid one, and a handler of that signal answered without those bits, so "
        "that it chose the kernels it has for such CPUs. An AVX2 CPU of another make may do them at other speeds.",
    ),
    Measurement(
        "startup",
        "Start, memory and recovery",
        "make bench ONLY=startup",
        "`livedub serve` is started anew each time and asked for /ready. Memory is each process's proportional share "
        "(PSS) once it is ready. Then processes are killed without a word, and fragments are sent until one succeeds "
        "again; and sockets with an open stream are held idle.",
        minutes=3.5,
        module="startup",
    ),
    Measurement(
        "quality",
        "Quality of the dub",
        "make quality",
        "The models of configs/local.yaml dub real speech with transcripts. Each clip is cut every 6 s and at pauses, "
        "and fitted in several ways from the same words. Overlap is the time when original and dub both speak over "
        "the time when either does, by a voice detector that the fitting does not use.",
    ),
    Measurement(
        "overload",
        "Overload and fairness",
        "make overload",
        "More fragments are sent than the models can do, and one stream sends far more than its share.",
    ),
    Measurement(
        "film",
        "An hour of film",
        "make film",
        "`livedub dub` dubs a film against the echo engines, once in one go and once with Ctrl-C and SIGKILL in turn "
        "at random moments, each followed by `--resume`. Sound, picture and the subtitles' times of both are compared.",
        left_out=("interruptions", "exit_codes"),
    ),
    Measurement(
        "spoken",
        "Numbers and the like",
        "python -m bench.spoken",
        "For sentences with numbers, money, times, dates, units, abbreviations and the like: the phonemes that "
        "espeak-ng makes of what is written, and of what is normalised before a voice sees it, against those of the "
        "words that a person would say.",
    ),
    Measurement(
        "goodput",
        "What overload and slow machines leave",
        "make overload",
        "On a real server, fake models that do five fragments a second are sent half to three times as much, by "
        "streams that send whatever comes back; an all-knowing scheduler would deliver the lesser of what is sent and "
        "what they do. Then configs/local.yaml with every model made two, four and eight times slower, beside a "
        "worker that keeps three fragments in flight and heeds what the server asks; and fakes whose voice takes "
        "4.3 s, one at a time.",
    ),
    Measurement(
        "chaos",
        "Kills and rollouts under live streams",
        "make chaos",
        "Replicas are killed and everything is replaced while live streams run; each connection's history is judged "
        "by the rules of the protocol.",
    ),
    Measurement(
        "nodes",
        "Nodes that die",
        "make node-kill",
        "Ray nodes, all on this machine, are killed whole under live streams.",
    ),
    Measurement(
        "autoscaling",
        "Autoscaling",
        "make autoscaling",
        "Load goes up and down on several Ray nodes of this machine, with models that only take time.",
        left_out=("over_time", "settings"),
    ),
    Measurement(
        "slow_clients",
        "Clients that never read",
        "make slow-clients",
        "Clients stop reading and go on sending, beside one that reads; growth is counted from what as many clients "
        "that read had made of the same processes.",
    ),
    Measurement(
        "soak",
        "Memory over time",
        "make soak",
        "Streams come and go, some of them badly behaved; memory of each kind of process once it is warm.",
        left_out=("series_new", "sample_s", "warm_s"),
    ),
    Measurement(
        "decoding",
        "Decoding apart",
        "python -m bench.decoding",
        "Fragments are decoded in the replica and in a child process.",
    ),
    Measurement(
        "stages_cpu",
        "A fragment in each stage",
        "python -m bench.stages",
        "Each stage of configs/local.yaml computes fragments of 6 s by itself, without Ray.",
    ),
    Measurement(
        "stages_cpu_espeak",
        "A fragment in each stage, espeak-ng as the voice",
        "LIVEDUB_TTS__ENGINE=espeak python -m bench.stages",
        "The same with the fast voice.",
    ),
)
BATCHING = next(one for one in MEASUREMENTS if one.module == "asr_batching")


def catalogue(names: Iterable[str]) -> tuple[Measurement, ...]:
    """All measurements, and behind that of batches the same on the devices that these names of results tell of."""
    kind = BATCHING.name.removesuffix("cpu")
    devices = sorted(name.removeprefix(kind) for name in names if name.startswith(kind) and name != BATCHING.name)
    more = [
        replace(
            BATCHING,
            name=f"{kind}{device}",
            title=f"{BATCHING.title}, {device.replace('_', ' ')}",
            command="python -m bench.asr_batching --device cuda --compute-type float16",
            minutes=None,
            module="",
        )
        for device in devices
    ]
    at = MEASUREMENTS.index(BATCHING) + 1
    return (*MEASUREMENTS[:at], *more, *MEASUREMENTS[at:])
