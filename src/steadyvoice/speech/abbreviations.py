"""Abbreviations whose full stop does not end a sentence, and word lists for sentence segmentation, by language."""

from __future__ import annotations


def _set(words: str) -> frozenset[str]:
    return frozenset(words.split())


BEFORE_NAMES = _set(
    """
    dr mr mrs ms mx messrs mmes prof profs jas wm hon rev fr sr sra srta sres dra prof.ª gen col maj capt cpt cmdr lt
    sgt cpl adm gov
    pres sen rep supt insp amb pte pvt esq
    hr hrn frl dipl ing mag stud cand
    m mm mme mmes mlle mlles mgr pr vve sts
    d dª dña exmo exma ilmo lic arq
    sig sigg dott dott.ssa avv geom rag on prof.ssa sig.ra sig.na p.zza v.le
    dhr mevr mw mej drs ir jhr dhr ds mgr
    hr fru frk kand civ
    dl dna dra ing av
    κ κα κος κυρ δρ καθ
    г-н г-жа гр тов проф акад доц ст мл св им ул пр пл пер наб просп д кв корп стр обл р-н гг
    вул бул просп пл буд
    gosp
    ul al pl os św ks bp abp hab inż mgr doc prof
    ul nám tř sv ing mudr judr phdr mgr bc doc
    jl kh ny tn bpk sdr prof
    ts tp ths gs pgs bs ks q p
    डॉ प्रो श्री श्रीमती सुश्री कु पं मो
    ডা ড মো প্রফ
    திரு
    డా ડૉ ಡಾ
    """
)
"""Titles and the like, written before a name and never at the end of a sentence."""

PLACES = frozenset({"Mt", "Ft", "St", "Ste", "Pt"})
"""Abbreviations before the name of a place if written with a capital; otherwise they may end a sentence."""

BEFORE_NUMBERS = _set(
    """
    est para app rte pkwy
    no nos nr nrs num núm nums n nº art arts fig figs eq eqs p pp pg pgs pag pág págs page pages vol vols ch
    chap chaps sec
    secs tab tabs ex exs l ll v vv vs bd bde abb kap s z bl sp anm abs str hs hausnr tel apt rm ste ext
    cap caps c cc cf secc lám parr párr
    blz hfst afl
    rys zob godz ok poz rozdz tj zał
    č s kap obr odst čl str tzv hod
    kl ca jfr sid kap
    ap bl sc et nr
    бр
    рис гл с стр п пп ст табл см т тт ч чч д кв вып ок г
    стор див розд мал ч
    αρ σελ κεφ εικ
    hal bab gbr
    tr
    jan feb mar apr jun jul aug sep sept oct nov dec
    janv févr avr juil déc ene abr ago dic gen mag giu lug ott set out dez märz
    """
)
"""Abbreviations before a number."""

BEFORE_LETTERS = _set("app apps fig figs tab vol sec ex")
"""Abbreviations before a number or a single letter, such as "fig. A"."""

INSIDE = _set(
    """
    e.g i.e eg ie cf deg temp viz vs approx ca circa incl excl resp esp dept
    z.b z.bsp d.h u.a u.ä o.ä i.d.r u.u m.e s.o s.u v.a z.t zzt bzw evtl ggf inkl exkl bspw vgl sog tsd mio mrd
    ungef usf zzgl abzgl
    gem lt hrsg geb verh gest
    p.ex c.-à-d c.à.d env éd av bd ave boul
    p.ej ej aprox avda av ud uds vd vds ee c.c cía gral pl
    es ecc ca pag tel
    p.ex av prof aprox etc
    bijv d.w.z o.a m.a.w a.s i.p.v m.b.t t.o.v enz n.a.v z.o.z i.v.m
    np tj tzn m.in itd itp tzw ww dot wg zob por r w im pow woj
    т.е т.к т.н т.д т.п и.о напр т тыс млн млрд руб коп ср см обл пос пгт г
    т.зв тис грн напр див
    např tj tzv atd apod mj popř resp příp č
    t.ex d.v.s dvs bl.a m.m o.s.v osv s.k f.n t.o.m fr.o.m
    f.eks bl.a o.s.v m.v mht iflg pga vedr jf
    eks ev
    esim ts mm ym jne n so vrt
    pl ún kb stb ill u
    vb vs örn bkz mad cad sok sn
    dl dna str nr jud bd
    π.χ δηλ κ.λπ κλπ βλ πρβ αρ
    dll dsb dst dkk yth a.n
    v.v
    कि.मी कि.ग्रा रु
    """
)
"""Abbreviations within a sentence, such as "e.g."."""

ONLY_IN = {
    "dot": {"pl"},
    "es": {"it"},
    "gem": {"de"},
    "hab": {"pl"},
    "hon": {"en"},
    "ill": {"hu"},
    "ir": {"id", "nl"},
    "jas": {"en"},
    "ne": {"fi"},
    "ny": {"id"},
    "on": {"it"},
    "rag": {"it"},
    "so": {"fi"},
}
"""Abbreviations that are ordinary words in other languages, with the languages in which they count."""

# A full stop behind an initial or capitals ends the sentence if one of these words follows with a capital.
STARTERS = _set(
    """
    it the he she we they this that these those there here but and so in on at then if when while what who why
    how where
    my your our his her their its i you an a as for with after before however also yes no please now today
    do does did is are was were can could would should
    er sie es wir ihr das die der dann aber und ich il elle ils elles on nous vous je ce cette el ella ellos yo
    """
)

# Behind "a.m." and "p.m." these continue the sentence.
ZONES = _set(
    """
    eastern central pacific mountain est edt cst cdt mst mdt pst pdt et ct pt gmt utc cet cest bst ist
    monday tuesday wednesday thursday friday saturday sunday
    """
)

MONTHS = _set(
    """
    januar jänner februar märz april mai juni juli august september oktober november dezember
    jan feb mär apr jun jul aug sep sept okt nov dez
    januar februar marts april maj juni juli august september oktober november december mars januari februari
    augusti
    stycznia lutego marca kwietnia maja czerwca lipca sierpnia września października listopada grudnia
    ledna února března dubna května června července srpna září října listopadu prosince
    tammikuuta helmikuuta maaliskuuta huhtikuuta toukokuuta kesäkuuta heinäkuuta elokuuta syyskuuta lokakuuta
    marraskuuta
    joulukuuta siječnja veljače ožujka travnja svibnja lipnja srpnja kolovoza rujna listopada studenoga prosinca
    """
)

ORDINAL_LANGUAGES = _set("de da nb nn no fi cs sk sl hr sr bs hu pl et lv lt is tr lb fo eu bg mk")
"""Languages in which a number with a full stop is "third" rather than "three"."""

FUNCTION_WORDS = {
    "en": _set("the and of to in is it that was for you with on are be this have from or by not at as we he she they"),
    "de": _set(
        "der die das und ist nicht ein eine zu mit auf für sich den dem von im wir ich sie es auch wird in er war"
    ),
    "fr": _set("le la les et est des une un du que qui dans pour pas sur il elle ce au avec ne je nous vous sont"),
    "es": _set("el la los las es de que en un una por con para no se del su al como está más pero son"),
    "it": _set("il lo la gli le di che un una per con non si del della sono in al da come più ma nel"),
    "pt": _set("os as de que um uma para com não se do da em no na por mais mas ao são"),
    "nl": _set("de het een en is van niet dat op te met voor zijn in ik je hij zij er aan ook naar"),
    "pl": _set("na nie się jest to że do jak po za od przez są ale przy"),
    "sv": _set("och det att en ett är som på inte för med av den till har jag de"),
    "da": _set("og det at en et er som på ikke for med af den til har jeg de"),
    "no": _set("og det at en et er som på ikke for med av den til har jeg de"),
    "fi": _set("ja on ei se että oli hän mutta ovat kun niin tai myös"),
    "cs": _set("je se na že to do jako ale jsou byl není"),
    "sk": _set("je sa na že to do ako ale sú bol nie"),
    "hu": _set("az és hogy nem is egy van ez meg de csak"),
    "tr": _set("ve bir bu da de için ile çok ne var değil mi"),
    "ro": _set("și este în de la cu nu un care pe din să mai sunt"),
    "hr": _set("je na se da su za od ne to kao"),
    "id": _set("yang dan di ini itu dengan untuk tidak dari ke ada adalah"),
    "vi": _set("và là của có không được cho một các những này"),
}
"""Frequent words that identify a language in Latin letters. Of equally likely languages the first is taken."""
