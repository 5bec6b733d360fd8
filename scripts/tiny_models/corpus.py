"""Everyday English, German and French words, from which the tokenizer learns common pieces.

The sentences are put together at random and mean nothing; they exist so that ordinary text
splits into words and not into letters.
"""
ENGLISH = """the of and to a in is it you that he was for on are with as I his they be at one have this from or had by not but what all were
when we there can an your which their said if do will each about how up out them then she many some so these would other into has more her two like him
see time could no make than first been its who now people my made over did down only way find use may water long little very after words called just
where most know get through back much before go good new write our used me man too any day same right look think also around another came come work
three word must because does part even place well such here take why things help put years different away again off went old number great tell men say
small every found still between name should home big give air line set own under read last never us left end along while might next sound below saw
something thought both few those always looked show large often together asked house world going want school important until form food keep children feet
land side without boy once animals life enough took sometimes four head above kind began almost live page got earth need far hand high year mother light
parts country father let night following picture being study second eyes soon times story boys since white days ever paper hard near sentence better best
across during today others however sure means knew try told young miles sun ways thing whole hear example heard several change answer room sea against top
turned learn point city play toward five using himself usually money seen car morning body upon family later turn move face door cut done group true half
red fish plants living black eat short United run book gave order open ground cold really table remember tree course front space inside ago sad early
learned brought close nothing though idea became add become grow draw yet less wind behind cannot letter among able dog shown mean English rest perhaps
certain six feel fire ready green yes built special ran full town complete oh person hot anything hold state list stood hundred ten fast felt kept notice
voice probably area horse matter stand box start class piece surface river common stop am talk quickly whether fine round dark girl past ball tell blue
instead either held already warm gone finally summer understand moon animal mind outside power problem longer winter deep heavy carefully follow beautiful
everyone leave everything game system bring watch shall dry within floor ice ship themselves begin fact third quite carry distance although heart real
simple snow rain suddenly leaves easy lay size wild weather miss pattern sky walked main someone center field stay itself question wide least tiny hour
happened foot care low else gold build glass rock tall alone bottom check reading fall poor map friend language job music buy window mark heat grew listen
ask single clear energy week explain lost spring travel wrote farm circle whose correct bed measure straight base mountain caught hair bird wood color
colour death war sleep yellow French German dance bright love money cause north south east west street office market company government service
business information computer program file model data image text command folder function value error result message user server memory test report
software version open close save load print return string number list object please thank hello sorry goodbye welcome morning evening tonight tomorrow
yesterday Monday Tuesday Wednesday Thursday Friday Saturday Sunday January February March April June July August September October November December
don't can't won't isn't doesn't I'm it's that's let's you're what's I'd I'll we're they're couldn't wouldn't didn't"""
GERMAN = """der die das und in zu den ist nicht von sie mit dem sich des auf für als auch es an werden aus er hat dass wir nach wird bei einer um am
sind noch wie einem über einen so zum war haben nur oder aber vor zur bis mehr durch man sein wurde sei ein eine eines kann gegen vom können schon wenn
habe seine ihre dann unter wir soll ich Jahr Jahren zwei diese dieser wieder keine Uhr seiner worden will zwischen immer Zeit was sagte gibt alle seit
muss wurden beim doch jetzt waren drei viel heute mich diesem Tag etwas Frau Mann Kind Kinder Haus Stadt Land Leben Arbeit Welt Wasser Hand Weg Auge Augen
Frage Antwort Wort Worte Buch Seite Bild Bilder Farbe Form Größe groß klein gut schlecht neu alt lang kurz hoch tief schnell langsam schön warm kalt hell
dunkel links rechts oben unten vorne hinten Mitte rot grün blau gelb schwarz weiß grau braun machen gehen kommen sehen sagen geben nehmen finden stehen
liegen sitzen laufen fahren lesen schreiben sprechen hören verstehen wissen denken glauben fühlen essen trinken schlafen spielen lernen zeichnen malen
zeigen helfen bitte danke hallo guten Morgen Abend Nacht Woche Monat Sommer Winter Herbst Frühling Montag Dienstag Mittwoch Donnerstag Freitag Samstag
Sonntag Freund Freundin Schule Lehrer Straße Garten Baum Blume Hund Katze Vogel Pferd Tisch Stuhl Tür Fenster Zimmer Küche Brot Milch Apfel Licht Sonne
Mond Stern Himmel Regen Schnee Feuer Erde Meer Fluss Berg Wald Musik Lied Sprache Deutsch Englisch Französisch Übersetzung übersetzen Satz Text Hintergrund
warum wo wer wann welche welcher welches niemand jemand nichts alles vielleicht natürlich leider gerne zusammen allein möglich wichtig richtig falsch
einfach schwer leicht voll leer offen geschlossen erste zweite dritte letzte nächste ganz fast sehr auf"""
FRENCH = """le la les de des du un une et à en est que qui dans pour pas sur au il elle ce se ne plus par avec tout faire son sa ses mettre autre on mais
nous comme ou si leur y dire devoir avant deux même prendre aussi celui donner bien où fois vous encore nouveau aller cela entre premier vouloir déjà grand
mon me moins aucun lui temps très savoir falloir voir quelque sans raison notre dont non an monde jour monsieur demander alors après trouver personne rendre
part dernier venir pendant passer peu lequel suite bon comprendre depuis point ainsi heure rester année toujours tenir porter parler fort montrer certain
continuer eux penser ici suivre lorsque appeler maison ville pays vie travail eau main chemin œil yeux question réponse mot livre page image couleur forme
taille petit grande petite beau belle vieux vieille jeune long court haut bas vite chaud froid clair gauche droite milieu rouge vert bleu jaune noir blanc
gris marron rose violet être avoir est sont était étaient suis sommes êtes ont avait lire écrire entendre manger boire dormir jouer apprendre dessiner
peindre aider merci bonjour bonsoir salut matin soir nuit semaine mois été hiver automne printemps lundi mardi mercredi jeudi vendredi samedi dimanche ami
amie école maître rue jardin arbre fleur chien chat oiseau cheval table chaise porte fenêtre chambre cuisine pain lait pomme lumière soleil lune étoile ciel
pluie neige feu terre mer fleuve montagne forêt musique chanson langue français anglais allemand traduction traduire phrase texte fond pourquoi quand
combien quel quelle quels quelles rien peut-être possible important vrai faux simple difficile facile plein vide ouvert fermé deuxième troisième suivant
c'est j'ai n'est qu'il d'un d'une l'eau s'il aujourd'hui"""
VOCABULARIES = tuple(text.split() for text in (ENGLISH, GERMAN, FRENCH))


def sentences(rng, count):
    """Random sentences of the three languages; earlier words of a list come more often."""
    for _ in range(count):
        vocabulary = rng.choice(VOCABULARIES)
        words = [vocabulary[int(len(vocabulary) * rng.random() ** 1.6)] for _ in range(rng.randint(4, 14))]
        text = " ".join(words)
        yield text[0].upper() + text[1:] + rng.choice((".", ".", "?", "!", ",", ":"))
