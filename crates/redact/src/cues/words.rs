//! Words that are looked up. Each list is short on purpose: what is not in it is left to the cues.

use std::{collections::HashSet, sync::LazyLock};

/// What stands in small letters within a name.
pub(super) const PARTICLES: &[&str] = &[
    "al", "bin", "da", "de", "del", "della", "den", "der", "di", "do", "dos", "du", "el", "la",
    "le", "van", "von",
];

/// Whether a word is written with a capital for another reason than that it is a name.
pub(super) fn is_common(word: &str) -> bool {
    static WORDS: LazyLock<HashSet<&str>> = LazyLock::new(|| COMMON.split(' ').collect());
    WORDS.contains(word)
}

/// Whether it is a given name and hardly ever anything else.
pub(super) fn is_given_name(word: &str) -> bool {
    static NAMES: LazyLock<HashSet<&str>> = LazyLock::new(|| GIVEN_NAMES.split(' ').collect());
    NAMES.contains(word)
}

/// What opens sentences and headings: days, months, titles and nationalities among it.
const COMMON: &str = "\
    A About Above Absolutely According Account Actually Add Address Admin After Again Agent \
    Airport All Alright Also Although Always Am American Amount An And Answer Any Anyone Apr \
    April Are Around As Assistant At Aug August Award Be Because Been Before Being Below \
    Between Book Bot Both British Business But Buy By Call Can Canadian Cannot Card Change \
    Check Chinese City Click Client Code Company Contact Could Country Credit Customer Dame \
    Date Dear Dec December Did Do Does Dr Dutch Each Economy Either Else Email English Error \
    European Even Every Everybody Everyone Example Fax Feb February Few File Find First Flight \
    For Frau French Friday Friend Friends From Further German Get Give Go God Good Great Greek \
    Guest Had Has Have He Hello Help Hence Her Here Herr Hers Hey Hi His Hotline How However I \
    If In Indian Instead Insurance Internet Into Invoice Irish Is It Italian Its Jan January \
    Japanese Jul July Jun June Just Korean Last Let Like List Look Looking Madam Madame Make \
    Manager Many Mar March May Maybe Me Meet Member Members Message Mexican Mine Miss Mobile \
    Monday Monsieur More Most Mr Mrs Ms Much Mx My Name Neither Never New Next No Nobody None \
    Nor Not Note Nothing Nov November Now Number Oct October Of Off Office Oh Ok Okay On Once \
    One Only Or Order Other Our Out Over Own Page Passenger Passengers Patient Payment Per \
    Perfect Perhaps Phone Play Please Polish Portuguese Press Price Product Prof Professor \
    Question Rate Read Reservation Russian Saturday Say Says Search See Send Sep Sept \
    September Service She Should Show Since Sir So Some Somebody Someone Something Sorry \
    Spanish State Step Still Street Subject Such Summary Sunday Support Sure Swedish Swiss \
    System Table Take Team Tell Than Thank Thanks That The Their Them Then There Therefore \
    These They This Those Though Three Through Thursday Thus Ticket Time Title To Today \
    Together Tomorrow Too Total Travel Try Tuesday Turkish Turn Two Type Under Unfortunately \
    Until Up Upon Us Use User Version Very Wait Want Was We Website Wednesday Welcome Well \
    Were What When Where Whether Which While Who Whom Whose Why Will With Within Without World \
    Would Yes Yesterday Yet You Your Yours Zip";

const GIVEN_NAMES: &str = "\
    Aaron Abigail Adam Ahmed Aisha Alan Albert Alejandro Alexander Alexandra Alice Alison \
    Amanda Amelia Amy Andrea Andreas Andrew Angela Anita Anna Anne Anthony Antonio Arthur \
    Barbara Benjamin Bernard Beth Betty Brandon Brian Bryan Camille Carlos Carol Caroline \
    Carolyn Catherine Charles Charlotte Cheryl Chloe Christian Christina Christine Christoph \
    Christopher Claire Clara Claudia Craig Cynthia Daniel Daniela David Deborah Denise Dennis \
    Diana Diane Diego Dmitri Donald Donna Dorothy Douglas Edward Eleanor Elena Elisabeth \
    Elizabeth Emily Emma Eric Erik Ethan Eva Evelyn Fatima Felix Fernando Florian Francesco \
    Francisco Frank Franz Fred Frederick Gabriel Gary George Gerald Giovanni Giulia Gloria \
    Gregory Günther Hannah Hans Harold Heather Helen Henry Hugo Ingrid Irene Isabella Ivan \
    Jacob Jacqueline James Jamie Jane Janet Janice Jason Javier Jeffrey Jennifer Jeremy Jerry \
    Jessica Joan Johan Johanna John Jonathan Jose Joseph Joshua José Joyce Juan Judith Judy \
    Julia Julian Julie Jürgen Karen Karin Katherine Kathleen Kathryn Katrina Keith Kelly \
    Kenneth Kevin Kimberly Klaus Kyle Larry Laura Lauren Lawrence Leonard Liam Linda Lisa \
    Lucas Lucia Luis Luisa Lukas Magdalena Manuel Margaret Maria Marie Marilyn Mario Marta \
    Martha Martin Mary María Mateo Matthew Megan Mei Melissa Mia Michael Michelle Miguel \
    Mohamed Mohammed Monica Nancy Naomi Natalia Natalie Nathan Nicholas Nicole Nikolai Noah \
    Olga Oliver Olivia Omar Pamela Patricia Patrick Paul Paula Pedro Peter Philip Philipp \
    Pierre Priya Rachel Raj Ralph Raymond Rebecca Richard Robert Roberto Ronald Roy Ruth Ryan \
    Samantha Samuel Sandra Sara Sarah Scott Sean Sebastian Sergio Sharon Shirley Simon Sofia \
    Sophia Sophie Stefan Stephan Stephanie Stephen Steven Susan Svetlana Tatiana Teresa \
    Theresa Thomas Timothy Tomás Valentina Victor Victoria Vincent Vladimir Walter Wayne Wei \
    Wilhelm William Wolfgang Xavier Yara Yuki Yuri Yusuf Zoe";

/// Countries whose names are nothing else, neither a person's nor a bird's; as a pattern.
pub(super) const COUNTRIES: &str = "\
    Afghanistan|Albania|Algeria|Andorra|Angola|Argentina|Armenia|Australia|Austria|Azerbaijan|\
    Bahamas|Bahrain|Bangladesh|Barbados|Belarus|Belgium|Belize|Benin|Bhutan|Bolivia|Botswana|\
    Brazil|Brunei|Bulgaria|Burundi|Cambodia|Cameroon|Canada|Chile|China|Colombia|Costa Rica|\
    Croatia|Cuba|Cyprus|Czech Republic|Czechia|Denmark|Dominican Republic|Ecuador|Egypt|\
    El Salvador|England|Estonia|Ethiopia|Fiji|Finland|France|Gambia|Germany|Ghana|Greece|\
    Greenland|Guatemala|Guyana|Haiti|Honduras|Hungary|Iceland|India|Indonesia|Iran|Iraq|\
    Ireland|Israel|Italy|Jamaica|Japan|Kazakhstan|Kenya|Kuwait|Laos|Latvia|Lebanon|Liberia|\
    Libya|Liechtenstein|Lithuania|Luxembourg|Malawi|Malaysia|Maldives|Malta|Mauritius|Mexico|\
    Moldova|Monaco|Mongolia|Montenegro|Morocco|Mozambique|Myanmar|Namibia|Nepal|Netherlands|\
    New Zealand|Nicaragua|Nigeria|North Macedonia|Norway|Oman|Pakistan|Panama|Paraguay|Peru|\
    Philippines|Poland|Portugal|Puerto Rico|Qatar|Romania|Russia|Rwanda|Saudi Arabia|Scotland|\
    Senegal|Serbia|Singapore|Slovakia|Slovenia|Somalia|South Africa|South Korea|Spain|\
    Sri Lanka|Sudan|Sweden|Switzerland|Syria|Taiwan|Tanzania|Thailand|Tunisia|Uganda|Ukraine|\
    United Arab Emirates|United Kingdom|United States|Uruguay|Uzbekistan|Venezuela|Vietnam|\
    Wales|Yemen|Zambia|Zimbabwe";
